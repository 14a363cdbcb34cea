// Run by compose.test.ts in a network and a mount namespace of its own, where /etc/resolv.conf names 127.0.0.1: a
// name server that answers `app` with the addresses of replicas, as Compose's does, and HAProxy with the environment
// and the configuration that docker-compose.yml gives it. Argument: {"haproxy", "cfg", "env"} as JSON. Prints the
// replicas that HAProxy sends requests to after each change of scale, one JSON list a line.

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const SCALES = [2, 5, 1];
const { haproxy, cfg, env } = JSON.parse(process.argv[2] ?? "");
/** @type {string[]} */
let replicas = [];

const names = createSocket("udp4");
names.on("message", (query, from) => names.send(answer(query), from.port, from.address));
await new Promise((done) => names.bind(53, "127.0.0.1", () => done(undefined)));

for (let last = 2; last < 2 + Math.max(...SCALES); last += 1) {
  const address = `127.0.0.${last}`;
  createServer((_request, response) => response.end(address)).listen(3000, address);
}

// The replicas use port 3000 of their addresses, so HAProxy listens on 127.0.0.1 instead of all.
const child = spawn(haproxy, ["-W", "-db", "-f", cfg], {
  env: { ...env, HOST: "127.0.0.1" },
  stdio: ["ignore", "ignore", "inherit"],
});
for (const scale of SCALES) {
  replicas = Array.from({ length: scale }, (_, index) => `127.0.0.${index + 2}`);
  const deadline = Date.now() + 15_000;
  let used = await usedReplicas();
  while (used.join() !== replicas.join() && Date.now() < deadline) {
    await sleep(100);
    used = await usedReplicas();
  }
  console.log(JSON.stringify(used));
}
child.kill("SIGTERM");
child.once("exit", () => process.exit(0));

/** The replicas that answer twenty requests, each on its own connection. */
async function usedReplicas() {
  const used = new Set();
  for (let request = 0; request < 20; request += 1) {
    try {
      const response = await fetch("http://127.0.0.1:3000/", { headers: { connection: "close" } });
      used.add(response.ok ? await response.text() : String(response.status));
    } catch {
      used.add("refused");
    }
  }
  return [...used].toSorted((a, b) => a.localeCompare(b));
}

/**
 * The answer to one question: addresses for `app`, nothing for any other name or type.
 *
 * @param {Buffer} query
 */
function answer(query) {
  const end = query.indexOf(0, 12) + 5;
  const asked = query.toString("latin1", 13, end - 5);
  const found = asked === "app" && query.readUInt16BE(end - 4) === 1 ? replicas : [];
  const head = Buffer.from(query.subarray(0, end));
  // A response without error; one question, the answers, nothing more.
  head.writeUInt16BE(0x8180, 2);
  [1, found.length, 0, 0].forEach((count, index) => head.writeUInt16BE(count, 4 + 2 * index));
  const records = found.map((address) =>
    // The question's name, type A, class IN, one second, four bytes.
    Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...address.split(".").map(Number)]),
  );
  return Buffer.concat([head, ...records]);
}
