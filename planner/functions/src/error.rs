//! Our errors inside DataFusion's. It does not know what goes wrong.

use datafusion::common::DataFusionError;
use eddyline_common::SqlError;

/// For the traits of DataFusion that we implement.
pub fn into_datafusion(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
