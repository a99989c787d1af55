//! scratch
use aya::programs::{TestRun as _, TestRunOptions};
use lb_userspace::datapath::{Datapath, Options};
fn main() {
    let mut d = Datapath::load(&Options {
        instance: "scratch".into(),
        flow_capacity: 1024,
        replace_pins: false,
        trace: std::env::var("TRACE").is_ok(),
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let t = d.map_flow_table().unwrap();
    let info = d.program().unwrap().info().unwrap();
    println!(
        "verified {:?} translated {:?} adopted {}",
        info.verified_instruction_count(),
        info.size_translated(),
        d.adopted()
    );
    let mut frame = vec![0u8; 64];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[23] = 6;
    frame[17] = 50;
    frame[22] = 64;
    let mut out = vec![0u8; 2048];
    let p = d.program().unwrap();
    for _ in 0..3 {
        let r = p
            .test_run(TestRunOptions {
                data_in: Some(&frame),
                data_out: Some(&mut out),
                repeat: 1_000_000,
                ..TestRunOptions::default()
            })
            .unwrap();
        println!("{r:?}");
    }
    drop(t);
    d.pins().remove().unwrap();
}
