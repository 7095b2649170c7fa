// Azure's blob store on loopback: Azurite, with one container "box". Arguments: the folder of its modules, and that of its data. Prints
// the port when it answers; then obeys lines of its standard input, `stop` (the port is closed) and `start` (it is open again, with the
// same data), and repeats them when that is done. Ends when its standard input does.
const { spawn } = require("child_process");
const crypto = require("crypto");
const http = require("http");
const readline = require("readline");

const [modules, data] = process.argv.slice(2);
// Azurite's own, which everybody knows.
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
let azurite;
let port = 0;

function start() {
  const words = ["--blobHost", "127.0.0.1", "--blobPort", port, "--location", data, "--disableTelemetry", "--silent", "--skipApiVersionCheck"];
  azurite = spawn(process.execPath, [`${modules}/azurite/dist/src/blob/main.js`, ...words], { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((resolve, reject) => {
    azurite.once("exit", () => reject(new Error("Azurite ended while starting")));
    readline.createInterface({ input: azurite.stdout }).on("line", (line) => {
      const found = line.match(/successfully listens on http:\/\/127\.0\.0\.1:(\d+)/);
      if (!found) return;
      port = found[1];
      resolve();
    });
  });
}

function stop() {
  azurite.removeAllListeners("exit");
  return new Promise((resolve) => {
    azurite.once("exit", resolve);
    azurite.kill("SIGTERM");
  });
}

function makeContainer(name) {
  const headers = { "Content-Length": "0", "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-08-06" };
  const signed = `PUT${"\n".repeat(12)}x-ms-date:${headers["x-ms-date"]}\nx-ms-version:${headers["x-ms-version"]}\n`;
  const resource = `/${account}/${account}/${name}\nrestype:container`;
  const signature = crypto.createHmac("sha256", Buffer.from(key, "base64")).update(signed + resource).digest("base64");
  headers.Authorization = `SharedKey ${account}:${signature}`;
  return new Promise((resolve, reject) => {
    const request = http.request({ port, method: "PUT", path: `/${account}/${name}?restype=container`, headers }, (answer) => {
      answer.resume();
      if (answer.statusCode === 201) resolve();
      else reject(new Error(`the container was not made: ${answer.statusCode}`));
    });
    request.on("error", reject).end();
  });
}

async function main() {
  await start();
  await makeContainer("box");
  console.log(port);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await { start, stop }[line]();
    console.log(line);
  }
  azurite.kill("SIGKILL");
  process.exit(0);
}

main().catch((error) => {
  console.error(`azurite.js: ${error.message}`);
  if (azurite) azurite.kill("SIGKILL");
  process.exit(1);
});
