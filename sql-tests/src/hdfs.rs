//! A Hadoop cluster (`scripts/hdfs.sh`), whose NameNode can go away.

use crate::program::Program;
use crate::stores::Store;

/// Whose files those below `/eddyline` are.
const USER: &str = "eddyline";

pub struct HdfsCluster(Program);

impl HdfsCluster {
    pub fn start() -> Result<HdfsCluster, String> {
        Program::start("hdfs.sh").map(HdfsCluster)
    }

    /// The URL of any path.
    pub fn at(&self, path: &str) -> String {
        format!("hdfs://127.0.0.1:{}/{path}", self.0.port)
    }
}

impl Store for HdfsCluster {
    fn url(&self, path: &str) -> String {
        self.at(&format!("{USER}/{path}"))
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn variables(&self) -> Vec<(String, String)> {
        vec![("HADOOP_USER_NAME".to_string(), USER.to_string())]
    }

    fn stop(&mut self) {
        self.0.obey("stop");
    }

    fn restart(&mut self) {
        self.0.obey("start");
    }
}
