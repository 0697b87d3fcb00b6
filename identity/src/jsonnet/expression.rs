//! What each kind of tree means: expressions, their scopes, objects, and calls.

use std::rc::Rc;

use super::{
    Failed,
    machine::{Callable, Evaluated, Machine, ScopeId, Thunk, ThunkId, Val, wrong},
    object::Layer,
    syntax::{Argument, Binary, Bind, Clause, Expr, Members, Node, ObjectFor, Text},
};

impl Machine {
    pub(super) fn evaluate(&mut self, node: &Node, scope: ScopeId) -> Evaluated {
        self.step()?;
        self.deeper(|m| m.expression(node, scope))
    }

    fn wait(&mut self, node: &Node, scope: ScopeId) -> Evaluated<ThunkId> {
        match &**node {
            Expr::Variable(name) => match self.find(scope, name) {
                Some(found) => Ok(found),
                None => wrong(format!("there is no variable {name}")),
            },
            _ => self.thunk(Thunk::Waits(node.clone(), scope)),
        }
    }

    fn expression(&mut self, node: &Node, scope: ScopeId) -> Evaluated {
        match &**node {
            Expr::Null => Ok(Val::Null),
            Expr::Bool(value) => Ok(Val::Bool(*value)),
            Expr::Number(number) => Ok(Val::Number(*number)),
            Expr::Text(text) => Ok(Val::Text(text.clone())),
            Expr::This => Ok(Val::Object(self.this(scope)?.0)),
            Expr::Variable(name) => match self.find(scope, name) {
                Some(found) => self.force(found),
                None => wrong(format!("there is no variable {name}")),
            },
            Expr::Array(items) => {
                let mut thunks = Vec::with_capacity(items.len());
                for item in items {
                    thunks.push(self.thunk(Thunk::Waits(item.clone(), scope))?);
                }
                self.array(thunks)
            }
            Expr::ArrayFor(item, clauses) => {
                let mut items = Vec::new();
                self.each(clauses, scope, &mut |m, scope| {
                    items.push(m.thunk(Thunk::Waits(item.clone(), scope))?);
                    Ok(())
                })?;
                self.array(items)
            }
            Expr::Object(members) => self.object(members, scope),
            Expr::ObjectFor(object) => self.object_for(object, scope),
            Expr::Index(target, index) => {
                let target = self.evaluate(target, scope)?;
                let index = self.evaluate(index, scope)?;
                self.index(&target, &index)
            }
            Expr::Slice(target, parts) => self.slice(target, parts, scope),
            Expr::Super(index) => {
                let (object, layer) = self.this(scope)?;
                let name = self.field_name(index, scope)?;
                match self.field_below(object, layer, &name)? {
                    Some(value) => Ok(value),
                    None => wrong(format!("super has no field {name}")),
                }
            }
            Expr::InSuper(index) => {
                let (object, layer) = self.this(scope)?;
                let name = self.field_name(index, scope)?;
                Ok(Val::Bool(self.objects[object.0 as usize].layer_of(&name, layer).is_some()))
            }
            Expr::Call(target, arguments) => {
                let target = self.evaluate(target, scope)?;
                self.call_written(target, arguments, scope)
            }
            Expr::Local(binds, body) => {
                let scope = self.bind(binds, scope)?;
                self.evaluate(body, scope)
            }
            Expr::If(condition, then, otherwise) => {
                match (self.truth(condition, scope)?, otherwise) {
                    (true, _) => self.evaluate(then, scope),
                    (false, Some(otherwise)) => self.evaluate(otherwise, scope),
                    (false, None) => Ok(Val::Null),
                }
            }
            Expr::Function(function) => {
                Ok(Val::Function(Callable::Written(function.clone(), scope)))
            }
            Expr::Binary(operator @ (Binary::And | Binary::Or), left, right) => {
                let left = self.truth(left, scope)?;
                if left == (*operator == Binary::Or) {
                    return Ok(Val::Bool(left));
                }
                Ok(Val::Bool(self.truth(right, scope)?))
            }
            Expr::Binary(operator, left, right) => {
                let left = self.evaluate(left, scope)?;
                let right = self.evaluate(right, scope)?;
                self.binary(*operator, left, right)
            }
            Expr::Unary(operator, value) => {
                let value = self.evaluate(value, scope)?;
                self.unary(*operator, &value)
            }
            Expr::Assert(condition, message, rest) => {
                self.assert(condition, message.as_ref(), scope)?;
                self.evaluate(rest, scope)
            }
            Expr::Raise(message) => {
                let message = self.evaluate(message, scope)?;
                Err(Failed::Raised(self.show(&message)?))
            }
        }
    }

    pub(super) fn truth(&mut self, node: &Node, scope: ScopeId) -> Evaluated<bool> {
        match self.evaluate(node, scope)? {
            Val::Bool(value) => Ok(value),
            other => wrong(format!("expected a boolean, found {}", other.kind())),
        }
    }

    pub(super) fn assert(
        &mut self,
        condition: &Node,
        message: Option<&Node>,
        scope: ScopeId,
    ) -> Evaluated<()> {
        if self.truth(condition, scope)? {
            return Ok(());
        }
        let told = match message {
            Some(message) => {
                let message = self.evaluate(message, scope)?;
                self.show(&message)?
            }
            None => "an assertion failed".to_owned(),
        };
        Err(Failed::Raised(told))
    }

    pub(super) fn bind(&mut self, binds: &Rc<Vec<Bind>>, scope: ScopeId) -> Evaluated<ScopeId> {
        let inner = self.scope(Vec::new(), Some(scope), None)?;
        for bind in &**binds {
            let value = self.thunk(Thunk::Waits(bind.value.clone(), inner))?;
            self.name(inner, bind.name.clone(), value);
        }
        Ok(inner)
    }

    /// Runs `inner` in the scope of each element that clauses give.
    fn each(
        &mut self,
        clauses: &[Clause],
        scope: ScopeId,
        inner: &mut dyn FnMut(&mut Self, ScopeId) -> Evaluated<()>,
    ) -> Evaluated<()> {
        self.step()?;
        match clauses.split_first() {
            None => inner(self, scope),
            Some((Clause::If(condition), rest)) => {
                if self.truth(condition, scope)? {
                    return self.each(rest, scope, inner);
                }
                Ok(())
            }
            Some((Clause::For(name, items), rest)) => {
                let items = match self.evaluate(items, scope)? {
                    Val::Array(items) => items,
                    other => return wrong(format!("for goes over arrays, not {}", other.kind())),
                };
                for item in &*items {
                    let scope = self.scope(vec![(name.clone(), *item)], Some(scope), None)?;
                    self.deeper(|m| m.each(rest, scope, inner))?;
                }
                Ok(())
            }
        }
    }

    /// The name of a field; `None` for null.
    fn optional_name(&mut self, node: &Node, scope: ScopeId) -> Evaluated<Option<Text>> {
        match self.evaluate(node, scope)? {
            Val::Text(name) => Ok(Some(name)),
            Val::Null => Ok(None),
            other => wrong(format!("the name of a field is a string, not {}", other.kind())),
        }
    }

    fn field_name(&mut self, node: &Node, scope: ScopeId) -> Evaluated<Text> {
        match self.optional_name(node, scope)? {
            Some(name) => Ok(name),
            None => wrong("the name of a field is a string, not null"),
        }
    }

    fn object(&mut self, members: &Rc<Members>, scope: ScopeId) -> Evaluated {
        let mut layer = Layer::written(members.clone(), scope);
        for (at, field) in members.fields.iter().enumerate() {
            self.step()?;
            if let Some(name) = self.optional_name(&field.name, scope)?
                && !layer.add(name.clone(), at, None)
            {
                return wrong(format!("the field {name} is there twice"));
            }
        }
        self.new_object(vec![Rc::new(layer)])
    }

    fn object_for(&mut self, object: &Rc<ObjectFor>, scope: ScopeId) -> Evaluated {
        let mut names = Vec::new();
        self.each(&object.clauses, scope, &mut |m, scope| {
            if let Some(name) = m.optional_name(&object.field.name, scope)? {
                names.push((name, scope));
            }
            Ok(())
        })?;
        let mut layer = Layer::repeated(object.clone());
        for (name, scope) in names {
            if !layer.add(name.clone(), 0, Some(scope)) {
                return wrong(format!("the field {name} is there twice"));
            }
        }
        self.new_object(vec![Rc::new(layer)])
    }

    fn call_written(&mut self, target: Val, arguments: &[Argument], scope: ScopeId) -> Evaluated {
        let function = match target {
            Val::Function(function) => function,
            other => return wrong(format!("{} cannot be called", other.kind())),
        };
        let mut given = Vec::with_capacity(arguments.len());
        let mut named = Vec::new();
        for argument in arguments {
            let value = self.wait(&argument.value, scope)?;
            match &argument.name {
                None => given.push(value),
                Some(name) => named.push((name.clone(), value)),
            }
        }
        self.call_with(&function, given, named)
    }

    /// Calls a function with values by position.
    pub(super) fn call(&mut self, function: &Callable, arguments: Vec<ThunkId>) -> Evaluated {
        self.call_with(function, arguments, Vec::new())
    }

    fn call_with(
        &mut self,
        function: &Callable,
        given: Vec<ThunkId>,
        named: Vec<(Text, ThunkId)>,
    ) -> Evaluated {
        self.step()?;
        let (function, outer) = match function {
            Callable::Library(name) => {
                return self.deeper(|m| m.call_library(name, given, named));
            }
            Callable::Written(function, outer) => (function.clone(), *outer),
        };
        if given.len() > function.parameters.len() {
            let takes = function.parameters.len();
            return wrong(format!("a function takes {takes} arguments, not {}", given.len()));
        }
        let inner = self.scope(Vec::new(), Some(outer), None)?;
        let mut named_left = named.len();
        for (at, (name, default)) in function.parameters.iter().enumerate() {
            let by_name = named.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
            named_left -= usize::from(by_name.is_some());
            let value = match (given.get(at), by_name, default) {
                (Some(_), Some(_), _) => return wrong(format!("{name} is given twice")),
                (Some(value), None, _) => *value,
                (None, Some(value), _) => value,
                (None, None, Some(default)) => self.thunk(Thunk::Waits(default.clone(), inner))?,
                (None, None, None) => return wrong(format!("the argument {name} is missing")),
            };
            self.name(inner, name.clone(), value);
        }
        if named_left > 0 {
            return wrong("an argument is named that the function does not have");
        }
        self.evaluate(&function.body, inner)
    }
}
