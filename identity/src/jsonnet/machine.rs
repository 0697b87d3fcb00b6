//! The machine that evaluates: lazily, with everything counted. What each kind of tree
//! means is in [`expression`](super::expression).
//!
//! What is not looked at is not evaluated: a value that waits is a [`Thunk`], a tree
//! with the scope that it is to be evaluated in. Thunks, scopes and objects lie in
//! tables of the machine and name each other by number.

use std::rc::Rc;

use serde_json::Value;

use super::{
    Failed, Limits,
    object::Object,
    syntax::{Function, Node, Text},
};

macro_rules! number {
    ($($name:ident)*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(pub(super) u32);
    )*};
}

number!(ThunkId ScopeId ObjectId);

/// A value; what it is made of may still wait.
#[derive(Debug, Clone)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Number(f64),
    Text(Text),
    Array(Rc<Vec<ThunkId>>),
    Object(ObjectId),
    Function(Callable),
}

/// What can be called.
#[derive(Debug, Clone)]
pub(super) enum Callable {
    Written(Rc<Function>, ScopeId),
    Library(&'static str),
}

/// A value that may wait.
#[derive(Debug, Clone)]
pub(super) enum Thunk {
    Waits(Node, ScopeId),
    /// A field as a layer of an object has it.
    WaitsForField(ObjectId, usize, Text),
    /// A function to be called with one value, or with an index and a value.
    WaitsForCall(Callable, Vec<ThunkId>),
    IsBeingMade,
    Made(Val),
}

/// What names mean in a place.
#[derive(Debug)]
pub(super) struct Scope {
    names: Vec<(Text, ThunkId)>,
    parent: Option<ScopeId>,
    /// `self`, and the layer that the place is in.
    pub(super) this: Option<(ObjectId, usize)>,
}

/// Room that each thunk, scope and object is counted as, in bytes.
const PIECE_BYTES: usize = 64;

/// One evaluation.
pub(super) struct Machine {
    limits: Limits,
    steps: u64,
    depth: u32,
    bytes: usize,
    thunks: Vec<Thunk>,
    scopes: Vec<Scope>,
    pub(super) objects: Vec<Object>,
    pub(super) variables: Vec<(String, Value)>,
}

pub(super) type Evaluated<T = Val> = Result<T, Failed>;

pub(super) fn wrong<T>(what: impl Into<String>) -> Evaluated<T> {
    Err(Failed::Wrong(what.into()))
}

impl Machine {
    pub(super) fn new(limits: Limits, variables: &[(String, Value)]) -> Self {
        Self {
            limits,
            steps: 0,
            depth: 0,
            bytes: 0,
            thunks: Vec::new(),
            scopes: Vec::new(),
            objects: Vec::new(),
            variables: variables.to_vec(),
        }
    }

    /// Evaluates a program to its end.
    pub(super) fn run(&mut self, program: &Node, argument: &Value) -> Evaluated<Value> {
        let library = self.library()?;
        let library = self.made(Val::Object(library))?;
        let outermost = self.scope(vec![("std".into(), library)], None, None)?;
        let mut value = self.evaluate(program, outermost)?;
        if let Val::Function(function) = value {
            let argument = self.read(argument)?;
            let argument = self.made(argument)?;
            value = self.call(&function, vec![argument])?;
        }
        self.manifest(&value)
    }

    /// Counts a step.
    pub(super) fn step(&mut self) -> Evaluated<()> {
        self.steps += 1;
        if self.steps > self.limits.steps_max {
            return Err(Failed::Steps(self.limits.steps_max));
        }
        Ok(())
    }

    /// Counts what is about to be made.
    pub(super) fn spend(&mut self, bytes: usize) -> Evaluated<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.memory_bytes_max {
            return Err(Failed::Memory(self.limits.memory_bytes_max));
        }
        Ok(())
    }

    pub(super) fn output_bytes_max(&self) -> usize {
        self.limits.output_bytes_max
    }

    /// Goes a level deeper for as long as `inner` runs.
    pub(super) fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Evaluated<T>,
    ) -> Evaluated<T> {
        self.depth += 1;
        if self.depth > self.limits.depth_max {
            return Err(Failed::Depth(self.limits.depth_max));
        }
        let done = inner(self);
        self.depth -= 1;
        done
    }

    pub(super) fn thunk(&mut self, thunk: Thunk) -> Evaluated<ThunkId> {
        self.spend(PIECE_BYTES)?;
        let id = u32::try_from(self.thunks.len()).map_err(|_| Failed::Memory(0))?;
        self.thunks.push(thunk);
        Ok(ThunkId(id))
    }

    pub(super) fn made(&mut self, value: Val) -> Evaluated<ThunkId> {
        self.thunk(Thunk::Made(value))
    }

    pub(super) fn text(&mut self, text: &str) -> Evaluated {
        self.spend(text.len())?;
        Ok(Val::Text(text.into()))
    }

    pub(super) fn array(&mut self, items: Vec<ThunkId>) -> Evaluated {
        self.spend(items.len() * 4)?;
        Ok(Val::Array(Rc::new(items)))
    }

    /// An array of values that are there.
    pub(super) fn array_of(&mut self, values: Vec<Val>) -> Evaluated {
        let mut items = Vec::with_capacity(values.len());
        for value in values {
            items.push(self.made(value)?);
        }
        self.array(items)
    }

    pub(super) fn scope(
        &mut self,
        names: Vec<(Text, ThunkId)>,
        parent: Option<ScopeId>,
        this: Option<(ObjectId, usize)>,
    ) -> Evaluated<ScopeId> {
        self.spend(PIECE_BYTES + names.len() * 24)?;
        let inherited = parent.and_then(|parent| self.scopes[parent.0 as usize].this);
        let id = u32::try_from(self.scopes.len()).map_err(|_| Failed::Memory(0))?;
        self.scopes.push(Scope { names, parent, this: this.or(inherited) });
        Ok(ScopeId(id))
    }

    pub(super) fn name(&mut self, scope: ScopeId, name: Text, value: ThunkId) {
        self.scopes[scope.0 as usize].names.push((name, value));
    }

    pub(super) fn find(&self, scope: ScopeId, name: &str) -> Option<ThunkId> {
        let mut at = Some(scope);
        while let Some(scope) = at {
            let scope = &self.scopes[scope.0 as usize];
            let found = scope.names.iter().rev().find(|(known, _)| &**known == name);
            if let Some((_, value)) = found {
                return Some(*value);
            }
            at = scope.parent;
        }
        None
    }

    /// The object and the layer that a place is in.
    pub(super) fn this(&self, scope: ScopeId) -> Evaluated<(ObjectId, usize)> {
        match self.scopes[scope.0 as usize].this {
            Some(this) => Ok(this),
            None => wrong("self and super are of objects"),
        }
    }

    /// The value of a thunk.
    pub(super) fn force(&mut self, id: ThunkId) -> Evaluated {
        self.step()?;
        let at = id.0 as usize;
        let thunk = std::mem::replace(&mut self.thunks[at], Thunk::IsBeingMade);
        let value = match thunk {
            Thunk::Made(value) => value,
            Thunk::IsBeingMade => return wrong("a value depends on itself"),
            Thunk::Waits(node, scope) => self.evaluate(&node, scope)?,
            Thunk::WaitsForField(object, layer, name) => {
                self.deeper(|m| m.make_field(object, layer, &name))?
            }
            Thunk::WaitsForCall(function, arguments) => self.call(&function, arguments)?,
        };
        self.thunks[at] = Thunk::Made(value.clone());
        Ok(value)
    }
}
