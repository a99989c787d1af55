//! What the functions that a test file calls share: its tests, and what they have asked so far.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    rc::Rc,
};

use mlua::Function;

use super::{
    failure::{Failure, Place, Sources},
    flow::Flow,
};

/// One test file being run.
pub(super) struct Session {
    folder: PathBuf,
    /// The tests, in the file's order.
    pub tests: RefCell<Vec<Test>>,
    /// What was loaded.
    pub sources: RefCell<Sources>,
    /// Whether a test is running.
    pub running: Cell<bool>,
    /// The flow that a field was read of last.
    read: RefCell<Option<Rc<Flow>>>,
    expectations: RefCell<Vec<Expectation>>,
}

/// A test, as the file names it.
#[derive(Clone)]
pub(super) struct Test {
    pub name: String,
    pub place: Option<Place>,
    pub function: Function,
}

/// `expect(…)`.
struct Expectation {
    places: Vec<Place>,
    /// The flow that it is about.
    flow: Option<Rc<Flow>>,
    /// Whether anything was expected.
    asked: bool,
}

impl Session {
    /// Of a file.
    pub fn new(file: &Path) -> Rc<Self> {
        Rc::new(Self {
            folder: file.parent().unwrap_or(Path::new("")).to_owned(),
            tests: RefCell::default(),
            sources: RefCell::default(),
            running: Cell::new(false),
            read: RefCell::default(),
            expectations: RefCell::default(),
        })
    }

    /// A path beside the file.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// A field of a flow has been read: what is expected next is about that flow.
    pub fn read(&self, flow: &Rc<Flow>) {
        self.read.replace(Some(Rc::clone(flow)));
    }

    /// `expect(…)` is called; says the expectation's number.
    pub fn expect(&self, places: Vec<Place>) -> usize {
        let mut expectations = self.expectations.borrow_mut();
        expectations.push(Expectation { places, flow: self.read.take(), asked: false });
        expectations.len() - 1
    }

    /// Something is expected.
    pub fn asked(&self, number: usize) {
        if let Some(expectation) = self.expectations.borrow_mut().get_mut(number) {
            expectation.asked = true;
        }
    }

    /// What was expected did not come true.
    pub fn disappointed(&self, number: usize, message: String, places: Vec<Place>) -> Failure {
        let expectations = self.expectations.borrow();
        let flow = expectations.get(number).and_then(|it| it.flow.as_ref());
        let flow = flow.and_then(|flow| flow.explanation()).map(Box::new);
        Failure { places, flow, ..Failure::new(message) }
    }

    /// An `expect(…)` that asked for nothing, which would always come true.
    pub fn left_open(&self) -> Option<Failure> {
        let expectations = self.expectations.borrow();
        let open = expectations.iter().find(|expectation| !expectation.asked)?;
        let message = "expect(…) asks for nothing: go on with .is(…), .contains(…) or another";
        Some(Failure { places: open.places.clone(), ..Failure::new(message) })
    }
}
