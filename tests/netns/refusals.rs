//! What cannot work is refused in a sentence, and leaves nothing behind.

use std::{fs, os::unix::fs::PermissionsExt};

use lb_tests::{Configuration, Finished, require_root};

use crate::site::{INSTANCE, Site, WEB, configuration, pool};

/// A configuration with a script.
fn scripted() -> String {
    let set = "datascripts = [\"set\"]
[[datascript]]
name = \"set\"
pools = [\"web\"]
l4_request = \"set.lua\"
";
    format!("{WEB}{set}{}{}", pool("web", [1], 80), pool("other", [2], 80))
}

fn plain() -> String {
    format!("{WEB}{}", pool("web", [1], 80))
}

/// Where a word of a text stands: `file:line:column`.
fn place(file: &str, text: &str, word: &str) -> String {
    let before = &text[..text.find(word).unwrap()];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    format!("{file}:{line}:{column}\n")
}

/// What a start could leave on a host: pins, programs on interfaces, addresses.
fn traces(site: &Site, configuration: &Configuration) -> (bool, String, String) {
    // A link's line tells of a program on it; its counters are not shown.
    let links = site.balancer.run(&["ip", "link"]).unwrap();
    (configuration.pins().exists(), links, site.addresses())
}

/// Tries `lb check` and `lb run`: both must refuse and name the place.
fn assert_refused(site: &Site, rest: &str, script: &str, file: &str, word: &str) {
    let text = configuration(rest);
    let configuration = Configuration::new(&text, &[("set.lua", script)]).unwrap();
    let place = place(file, if file == "set.lua" { script } else { &text }, word);
    let before = traces(site, &configuration);
    for command in [&["check", "{file}"][..], &["run", "--config", "{file}"]] {
        let refused = configuration.try_lb(&site.balancer, command).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(&place), "{place} is not in\n{}", refused.stderr);
        assert!(refused.stderr.contains("1 problem found"), "{}", refused.stderr);
    }
    assert_eq!(traces(site, &configuration), before);
}

#[test]
fn faults_of_a_configuration_are_shown_where_they_are() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let refused = |rest: &str, word: &str| assert_refused(&site, rest, "", "lb.toml", word);
    refused(&format!("{WEB}colour = \"red\"\n{}", pool("web", [1], 80)), "colour");
    refused(&plain().replace("pool = \"web\"", "pool = \"wed\""), "\"wed\"");
    let second = WEB.replace("name = \"web\"", "name = \"second\"");
    let second = second.replace("port = 80", "port = 80 # again");
    refused(&format!("{}{second}", plain()), "80 # again");
    refused(&plain().replace("port = 80\n", "port = 80000\n"), "80000");
    refused(&plain().replace("name = \"web\"\naddress", "name = web\naddress"), "web\naddress");
}

#[test]
fn faults_of_a_script_are_shown_where_they_are() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let refused = |script: &str, word: &str| {
        assert_refused(&site, &scripted(), script, "set.lua", word);
    };
    // Lua names the line of an error of syntax, and no column.
    refused("local x = 1\nif x == 1 the x = 2 end", "if");
    refused("-- not referenced\navi.pool.select('other')", "'other'");
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let script = "avi.pool.select('web')";
    let configuration =
        Configuration::new(&configuration(&scripted()), &[("set.lua", script)]).unwrap();
    let said = configuration.try_lb(&site.balancer, &["check", "{file}"]).unwrap();
    let said = said.success("lb check").unwrap();
    assert!(said.contains("1 virtual services, 2 pools, 1 DataScript sets"), "{said}");
}

/// A start that fails with one sentence in which these words stand.
fn assert_one_sentence(refused: &Finished, words: &str) {
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    let lines: Vec<_> = refused.stderr.lines().filter(|line| !line.contains(" INFO ")).collect();
    let [line] = lines[..] else { panic!("not one line:\n{}", refused.stderr) };
    assert!(line.starts_with("lb: ") && line.contains(words), "{words} is not in\n{line}");
}

/// The same, with nothing of it left.
fn assert_not_started(site: &Site, text: &str, words: &str) {
    let configuration = Configuration::new(text, &[]).unwrap();
    let before = traces(site, &configuration);
    let refused = configuration.try_lb(&site.balancer, &["run", "--config", "{file}"]).unwrap();
    assert_one_sentence(&refused, words);
    assert_eq!(traces(site, &configuration), before);
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let text = configuration(&plain()).replace("\"servers\"]", "\"eth7\"]");
    assert_not_started(&site, &text, "there is no interface eth7");
}

#[test]
fn an_interface_that_another_instance_has_is_refused() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let only_servers = INSTANCE.replace("\"clients\", ", "");
    let first = only_servers + &plain().replace("192.0.2.10", "10.0.0.10");
    let first = lb_tests::Balancer::start(&site.balancer, &first, &[]).unwrap();
    // It gets as far as the second interface.
    let text = configuration(&plain().replace("192.0.2.10", "192.0.2.33"));
    assert_not_started(&site, &text, "another XDP program is attached to servers");
    assert!(first.pins().exists());
    assert_eq!(first.status_json().unwrap()["generation"], 1);
}

#[test]
fn a_second_daemon_of_an_instance_is_refused_and_the_first_goes_on() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let mut balancer = site.balance(&plain(), &[]);
    let refused = balancer.try_lb(&["run"]).unwrap();
    let words = format!("running already, as process {}", balancer.process().id());
    assert_one_sentence(&refused, &words);
    assert_eq!(site.ask(), "1");
}

#[test]
fn who_is_not_root_is_told_so() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let configuration = Configuration::new(&configuration(&plain()), &[]).unwrap();
    let folder = configuration.path().parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let before = traces(&site, &configuration);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let command = configuration.command(&["run", "--config", "{file}"]).unwrap();
    let words: Vec<_> = nobody.into_iter().chain(command.iter().map(String::as_str)).collect();
    let refused = site.balancer.try_run(&words, crate::site::SOON).unwrap();
    assert_one_sentence(&refused, "this needs root");
    assert_eq!(traces(&site, &configuration), before);
}

#[test]
fn a_machine_without_a_bpf_file_system_is_told_how_to_get_one() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let configuration = Configuration::new(&configuration(&plain()), &[]).unwrap();
    let before = traces(&site, &configuration);
    let command = configuration.command(&["run", "--config", "{file}"]).unwrap();
    // In a mount namespace of its own: other tests go on with theirs. There may be several, one
    // mounted over the other.
    let unmount = "while umount /sys/fs/bpf 2>/dev/null; do :; done";
    let script = format!("{unmount}; exec {}", command.join(" "));
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script];
    let refused = site.balancer.try_run(&words, crate::site::SOON).unwrap();
    assert_one_sentence(&refused, "mount -t bpf bpf /sys/fs/bpf");
    assert_eq!(traces(&site, &configuration), before);
}

#[test]
fn commands_without_a_daemon_say_that_there_is_none() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let configuration = Configuration::new(&configuration(&plain()), &[]).unwrap();
    for command in ["status", "flows", "tables", "reload"] {
        let words = [command, "--config", "{file}"];
        let refused = configuration.try_lb(&site.balancer, &words).unwrap();
        assert_one_sentence(&refused, "no daemon listens on");
    }
}
