//! A server that speaks the protocol of Azure's blob store (`scripts/azurite.sh`), with one container. It can go away.

use crate::program::Program;
use crate::stores::Store;

/// The emulator's, known to everybody.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub struct AzureServer(Program);

impl AzureServer {
    pub fn start() -> Result<AzureServer, String> {
        Program::start("azurite.sh").map(AzureServer)
    }
}

impl Store for AzureServer {
    fn url(&self, path: &str) -> String {
        format!("az://box/{path}")
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", self.0.port);
        vec![("azure.account", ACCOUNT.to_string()), ("azure.access-key", KEY.to_string()), ("azure.endpoint", endpoint)]
    }

    fn variables(&self) -> Vec<(String, String)> {
        let names = ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ENDPOINT"];
        names.map(String::from).into_iter().zip(self.options().into_iter().map(|(_, value)| value)).collect()
    }

    fn stop(&mut self) {
        self.0.obey("stop");
    }

    fn restart(&mut self) {
        self.0.obey("start");
    }
}
