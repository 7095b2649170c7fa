//! Files of lines that are compressed: as their names end, or as the source says. They are read from the start whatever place is
//! wanted, since nothing in them says where another could begin.

use super::stored::StoredFile;
use flate2::read::MultiGzDecoder;
use std::io::Read;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// `None`: as names say.
    pub fn of_option(option: Option<&String>) -> Option<Packing> {
        match option.map(String::as_str) {
            Some("none") => Some(Packing::None),
            Some("gzip") => Some(Packing::Gzip),
            Some("zstd") => Some(Packing::Zstd),
            _ => None,
        }
    }

    pub fn of_name(path: &str) -> Packing {
        let ends = |with: &str| path.len() > with.len() && path.to_ascii_lowercase().ends_with(with);
        if ends(".gz") || ends(".gzip") {
            Packing::Gzip
        } else if ends(".zst") || ends(".zstd") {
            Packing::Zstd
        } else {
            Packing::None
        }
    }

    /// What is in a file, from its start; members and frames one after the other are one text.
    pub fn open(self, stored: &Arc<StoredFile>) -> std::io::Result<Box<dyn Read + Send>> {
        let packed = stored.reader(0);
        Ok(match self {
            Packing::None => Box::new(packed),
            Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(packed)?),
        })
    }
}
