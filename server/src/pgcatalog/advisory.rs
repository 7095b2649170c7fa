//! `pg_advisory_lock` and its kin. Those that may wait do so without holding a query thread, so that a cancel or `lock_timeout` ends them; the others answer at once.

use super::rows::Value;
use super::{SystemContext, spec};
use crate::advisory::{AdvisoryLocks, Asker, Key, Mode};
use crate::session::settings::millis;
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, FieldRef};
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use eddyline_common::{SqlError, SqlState};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// The functions that wait.
pub const NAMES: [&str; 4] = ["pg_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"];

/// The function that waits, by its name.
pub fn function(name: &str, context: &Arc<SystemContext>) -> Option<Arc<ScalarUDF>> {
    let name = NAMES.into_iter().find(|known| *known == name)?;
    let mode = if name.contains("_xact_") { Mode::OF_TRANSACTION } else { Mode::OF_SESSION };
    let mode = if name.ends_with("_shared") { mode.shared() } else { mode };
    let signature = Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Volatile);
    let lock = Lock { name, mode, signature, context: context.clone() };
    Some(Arc::new(AsyncScalarUDF::new(Arc::new(lock)).into_scalar_udf()))
}

pub fn try_lock(context: &SystemContext, args: &[Value], mode: Mode) -> Result<Value, SqlError> {
    on_key(context, args, |locks, key, asker| locks.try_lock(key, asker, mode))
}

pub fn unlock(context: &SystemContext, args: &[Value], mode: Mode) -> Result<Value, SqlError> {
    on_key(context, args, |locks, key, asker| Ok(locks.unlock(key, asker.process, mode)))
}

pub fn unlock_all(context: &SystemContext) -> Result<Value, SqlError> {
    context.services.iter().for_each(|services| services.sessions.advisory.unlock_all(context.session.process));
    Ok("".into())
}

fn on_key(
    context: &SystemContext,
    args: &[Value],
    act: impl Fn(&AdvisoryLocks, Key, Asker) -> Result<bool, SqlError>,
) -> Result<Value, SqlError> {
    let (Some(services), Some(key)) = (&context.services, key(args)?) else { return Ok(Value::Null) };
    Ok(act(&services.sessions.advisory, key, asker(context))?.into())
}

fn asker(context: &SystemContext) -> Asker {
    Asker { process: context.session.process, transaction: context.session.transaction }
}

/// `None` if a number is null.
fn key(args: &[Value]) -> Result<Option<Key>, SqlError> {
    let half = |number: i64| i32::try_from(number).map_err(|_| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "integer out of range"));
    let numbers: Option<Vec<i64>> = args.iter().map(Value::as_int).collect();
    match numbers.as_deref() {
        Some([number]) => Ok(Some(Key::One(*number))),
        Some([first, second]) => Ok(Some(Key::Pair(half(*first)?, half(*second)?))),
        Some(_) => Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, "an advisory lock has one number or two")),
        None => Ok(None),
    }
}

struct Lock {
    name: &'static str,
    mode: Mode,
    signature: Signature,
    context: Arc<SystemContext>,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Lock {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for Lock {}

impl Hash for Lock {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Lock {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(spec::field(self.name, "void")))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal(format!("{} is awaited", self.name)))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Lock {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let external = |e: SqlError| DataFusionError::External(Box::new(e));
        let columns = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<DfResult<Vec<ArrayRef>>>()?;
        let mut locked = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let numbers: Vec<Value> = columns.iter().map(|column| Value::from_array(column, row)).collect();
            let key = key(&numbers).map_err(external)?;
            if let Some(key) = key {
                self.wait(key).await.map_err(external)?;
            }
            locked.push(key.map(|_| ""));
        }
        let nothing: ArrayRef = Arc::new(StringArray::from(locked));
        Ok(ColumnarValue::Array(nothing))
    }
}

impl Lock {
    async fn wait(&self, key: Key) -> Result<(), SqlError> {
        let Some(services) = &self.context.services else { return Ok(()) };
        let waiting = services.sessions.advisory.lock(key, asker(&self.context), self.mode);
        match self.context.setting("lock_timeout").and_then(millis).filter(|limit| *limit > 0) {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(Duration::from_millis(limit), waiting)
                .await
                .unwrap_or_else(|_| Err(SqlError::new(SqlState("55P03"), "canceling statement due to lock timeout"))),
        }
    }
}
