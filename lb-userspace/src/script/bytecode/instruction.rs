//! Instructions of Lua 5.1's virtual machine (`lopcodes.h`): 32 bits, the lowest six say what to do.

/// One of them, or a word of data behind one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Instruction(pub(super) u32);

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Operation(u32);

impl Operation {
    pub(super) const LOAD_BOOLEAN: Self = Self(2);
    /// To a register, of a constant's name.
    pub(super) const GET_GLOBAL: Self = Self(5);
    /// To a register, of a register's table, by a constant or a register.
    pub(super) const GET_TABLE: Self = Self(6);
    pub(super) const SET_GLOBAL: Self = Self(7);
    pub(super) const JUMP: Self = Self(22);
    pub(super) const EQUAL: Self = Self(23);
    pub(super) const LESS: Self = Self(24);
    pub(super) const LESS_OR_EQUAL: Self = Self(25);
    pub(super) const TEST: Self = Self(26);
    pub(super) const TEST_AND_SET: Self = Self(27);
    pub(super) const FOR_LOOP: Self = Self(31);
    pub(super) const FOR_PREPARE: Self = Self(32);
    pub(super) const FOR_IN_LOOP: Self = Self(33);
    pub(super) const SET_LIST: Self = Self(34);
}

/// Bits of the operation, and of its first, second and third argument. The second stands above the
/// third, and an argument of both their sizes in the place of both.
const OPERATION: u32 = 6;
const FIRST: u32 = 8;
const THIRD: u32 = 9;
const SECOND: u32 = 9;
const LONG: u32 = SECOND + THIRD;

/// Of a second or third argument: it is a constant, not a register.
const IS_CONSTANT: u32 = 1 << (SECOND - 1);

/// What a distance of 0 is written as.
const HERE: u32 = (1 << (LONG - 1)) - 1;

impl Instruction {
    /// Reads a global by the constant that is its name; `None` if there are too many constants.
    pub(super) fn get_global(register: u32, constant: usize) -> Option<Self> {
        let constant = u32::try_from(constant).ok().filter(|it| *it < 1 << LONG)?;
        Some(Self::long(Operation::GET_GLOBAL, register, constant))
    }

    /// Goes on so many instructions behind the next.
    pub(super) fn jump(distance: u32) -> Self {
        Self::long(Operation::JUMP, 0, HERE + distance)
    }

    fn long(operation: Operation, first: u32, argument: u32) -> Self {
        Self(operation.0 | first << OPERATION | argument << (OPERATION + FIRST))
    }

    pub(super) fn operation(self) -> Operation {
        Operation(self.bits(0, OPERATION))
    }

    pub(super) fn first(self) -> u32 {
        self.bits(OPERATION, FIRST)
    }

    pub(super) fn second(self) -> u32 {
        self.bits(OPERATION + FIRST + THIRD, SECOND)
    }

    pub(super) fn third(self) -> u32 {
        self.bits(OPERATION + FIRST, THIRD)
    }

    /// The constant that the third argument stands for, if it is none of the registers.
    pub(super) fn third_constant(self) -> Option<usize> {
        let third = self.third();
        (third & IS_CONSTANT != 0).then_some((third & !IS_CONSTANT) as usize)
    }

    /// The constant of an instruction that has a long argument.
    pub(super) fn constant(self) -> usize {
        self.bits(OPERATION + FIRST, LONG) as usize
    }

    /// How far behind the next instruction a jump goes on.
    pub(super) fn distance(self) -> isize {
        self.constant() as isize - HERE as isize
    }

    fn bits(self, from: u32, count: u32) -> u32 {
        self.0 >> from & ((1 << count) - 1)
    }
}
