import { createHash, randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { io, type Socket } from "socket.io-client";
import { Collector } from "../../../server/src/chat/collector.ts";
import { Users } from "../../../server/src/chat/users.ts";
import { readConfig } from "../../../server/src/config.ts";
import { createKeys } from "../../../server/src/keys.ts";
import type { ClientEvents, Message, ServerEvents, UploadedFile } from "../../../server/src/protocol.ts";
import { createBlobs } from "../../../server/src/store/blobs.ts";
import { Files } from "../../../server/src/store/files.ts";
import { Browser } from "../../../server/src/testing.ts";
import { startChild, type Child } from "../../child.ts";
import { root } from "../../prepare.mjs";
import { until } from "../crowd.ts";
import type { Scenario, Stage } from "../stage.ts";

const SENDERS = 8;
const PASSWORD = "correct horse";
const ANSWER_MS = 5_000;
const MOST_BYTES = 200_000;
/** The share of messages that their senders delete again. */
const DELETED = 0.25;
const LATER_MS = 25 * 3_600_000;
/** Replicas learn of the store before it runs, so it has a port by name. */
const PORT = 20_000 + (process.pid % 20_000);
const STORE = `s3://S3RVER:S3RVER@127.0.0.1:${PORT}/files?tls=off`;
/** What s3rver calls the bytes of an object. */
const OBJECT = "._S3rver_object";

type Sent = { seq: number; ids: string[]; hashes: string[]; deleted: boolean };

type Sender = {
  browser: Browser;
  socket: Socket<ServerEvents, ClientEvents>;
  /** What was acknowledged, in the order of sending. */
  sent: Sent[];
  uploads: { done: number; failed: number };
  stop: () => Promise<void>;
};

export const files: Scenario = {
  name: "files",
  title:
    "people send files and delete them, while the store stands still and is killed, replicas are killed, and Redis stands still",
  rig: { replicaEnv: (_tools, dir) => Array.from({ length: 3 }, () => envIn(dir)) },
  rate: 20,
  async run(stage) {
    const { rig, random, happened, must, fault, pause, tell } = stage;
    const folder = join(rig.dir, "store");
    let store = await startStore(folder);
    const senders: Sender[] = [];
    for (let index = 0; index < SENDERS; index += 1) senders.push(await createSender(stage, index));
    await until(() => senders.every(({ sent }) => sent.length > 0), 20_000, "all to send a file");

    await pause(1_500);
    process.kill(store.pid, "SIGSTOP");
    fault("the store stands still");
    await pause(2_500);
    process.kill(store.pid, "SIGCONT");
    await pause(1_000);
    process.kill(store.pid, "SIGKILL");
    await store.ended;
    fault("the store is killed");
    await pause(1_500);
    store = await startStore(folder);
    fault("the store is back");
    for (const replica of rig.replicas) {
      await pause(random.whole(800));
      await replica.kill();
      fault(`replica ${replica.name} is killed`);
      await pause(500);
      await replica.start();
    }
    process.kill(rig.redis.pid(), "SIGSTOP");
    fault("Redis stands still");
    await pause(1_500);
    process.kill(rig.redis.pid(), "SIGCONT");
    await pause(2_500);
    await Promise.all(senders.map((one) => one.stop()));

    const all = senders.flatMap(({ sent }) => sent);
    const failed = senders.reduce((sum, { uploads }) => sum + uploads.failed, 0);
    happened(failed > 0, "no upload failed");
    happened(
      all.some(({ deleted }) => deleted),
      "nothing was deleted",
    );
    const rows = (await rig.admin.zrange("room:0", "0", "-1")).map((row) => JSON.parse(row) as Message);
    const bySeq = new Map(rows.map((row) => [row.seq, row]));
    for (const { seq, ids, deleted } of all) {
      const now = bySeq.get(seq)?.files?.map(({ id }) => id) ?? [];
      must(
        now.join() === (deleted ? "" : ids.join()),
        `seq ${seq} has the files ${now.join()}, not ${ids.join()}`,
      );
    }
    for (const { sent } of senders)
      must(
        sent.every(({ seq }, at) => at === 0 || seq > (sent[at - 1]?.seq ?? 0)),
        "a sender's messages are not in the order of sending",
      );
    const attached = rows.flatMap(({ files: of = [] }) => of.map(({ id }) => id));
    must(new Set(attached).size === attached.length, "a file belongs to two messages");

    const reader = senders[0]?.browser;
    for (const { ids, hashes, deleted } of all)
      for (const [at, id] of ids.entries()) {
        const got = reader ? await read(reader, id) : "";
        must(got === (deleted ? "404" : hashes[at]), `file ${id} is ${got}${deleted ? ", and deleted" : ""}`);
      }
    const removed = await collectAll(stage);
    const left = objectsIn(folder);
    const lost = attached.filter((id) => !left.has(id));
    const stray = [...left].filter((id) => !attached.includes(id));
    must(lost.length === 0, `${lost.length} files of messages are gone: ${lost.slice(0, 3).join()}`);
    must(stray.length === 0, `${stray.length} files belong to no message: ${stray.slice(0, 3).join()}`);
    const sizes = rows.flatMap(({ files: of = [] }) => of.map(({ size }) => size));
    const used = Number((await rig.admin.hget("{files}:used", "all")) ?? 0);
    must(used === sizes.reduce((sum, size) => sum + size, 0), `${used} bytes are counted`);
    const uploads = senders.reduce((sum, { uploads: { done } }) => sum + done, 0);
    tell(
      `${uploads} uploads, ${failed} more failed; ${all.length} messages with files, ${all.filter(({ deleted }) => deleted).length} of them deleted; ${removed} files that no message got were collected`,
    );
    for (const { socket } of senders) socket.disconnect();
    await store.stop(1_000);
  },
};

function envIn(dir: string): Record<string, string> {
  return { FILES_URL: STORE, FILES_SPOOL: join(dir, "spool") };
}

async function startStore(directory: string): Promise<Child> {
  const options = {
    address: "127.0.0.1",
    port: PORT,
    silent: true,
    directory,
    configureBuckets: [{ name: "files", configs: [] }],
  };
  let ready = (): void => {};
  const running = new Promise<void>((resolve) => (ready = resolve));
  const child = startChild({
    command: process.execPath,
    args: [
      "--eval",
      `process.chdir(${JSON.stringify(root)});const S=require("@20minutes/s3rver");` +
        `new S(${JSON.stringify(options)}).run().then(()=>console.log("ready"))`,
    ],
    onLine: (line) => line === "ready" && ready(),
  });
  await Promise.race([
    running,
    child.ended.then(() => {
      throw new Error(`the store did not start: ${child.lastLines.join("\n")}`);
    }),
  ]);
  return child;
}

function objectsIn(folder: string): Set<string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Set(entries.flatMap(({ name }) => (name.endsWith(OBJECT) ? name.slice(0, -OBJECT.length) : [])));
}

/** Somebody who sends one message with files after the other, each until it is stored, and deletes some. */
async function createSender({ rig, random }: Stage, index: number): Promise<Sender> {
  const browser = new Browser({ address: rig.address });
  await browser.post("/api/users", { username: `sender${index}`, password: PASSWORD });
  const socket: Sender["socket"] = io(rig.address, {
    transports: ["websocket"],
    forceNew: true,
    reconnectionDelayMax: 500,
    extraHeaders: { cookie: browser.cookie, origin: rig.address },
  });
  const sent: Sent[] = [];
  const uploads = { done: 0, failed: 0 };
  let sending = true;

  /** Asks until the answer is final. */
  async function insist<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
    for (let tries = 1; tries < 200; tries += 1) {
      const answer = await ask().catch(() => undefined);
      if (answer !== undefined) return answer;
      await sleep(200);
    }
    throw new Error(`sender${index}: ${what} was not done`);
  }

  async function sendOne(count: number): Promise<void> {
    const contents = Array.from({ length: 1 + random.whole(2) }, () =>
      randomBytes(1 + random.whole(MOST_BYTES)),
    );
    const ids: string[] = [];
    for (const bytes of contents) {
      const { id } = await insist("an upload", async () => {
        const file = await uploadOnce(browser, bytes);
        uploads[file ? "done" : "failed"] += 1;
        return file;
      });
      ids.push(id);
    }
    const order = {
      roomId: "0",
      message: `sender${index} sends ${count}`,
      nonce: `file-${index}-${count}`,
      files: ids,
    };
    const { seq } = await insist("a message", async () => {
      const reply = await socket.timeout(ANSWER_MS).emitWithAck("message", order);
      if (!reply.ok && reply.error.code === "not_found") throw new Error(reply.error.message);
      return reply.ok ? reply.value : undefined;
    });
    const hashes = contents.map((bytes) => createHash("sha1").update(bytes).digest("hex"));
    const one: Sent = { seq, ids, hashes, deleted: false };
    sent.push(one);
    if (random.next() >= DELETED) return;
    await insist("a deletion", async () => {
      const reply = await socket.timeout(ANSWER_MS).emitWithAck("message.delete", { roomId: "0", seq });
      return reply.ok ? true : undefined;
    });
    one.deleted = true;
  }

  const running = (async () => {
    for (let count = 1; sending; count += 1) {
      await sendOne(count);
      await sleep(50);
    }
  })();
  running.catch(() => undefined);
  return {
    browser,
    socket,
    sent,
    uploads,
    stop() {
      sending = false;
      return running;
    },
  };
}

async function uploadOnce(browser: Browser, body: Buffer<ArrayBuffer>): Promise<UploadedFile | undefined> {
  const { address, cookie } = browser;
  const headers = { origin: address, cookie, "x-room-id": "0", "x-file-name": "some.bin" };
  const signal = AbortSignal.timeout(ANSWER_MS);
  const response = await fetch(`${address}/api/files`, { method: "POST", headers, body, signal }).catch(
    () => undefined,
  );
  if (response?.status === 201)
    return (await response.json().catch(() => undefined)) as UploadedFile | undefined;
  await response?.arrayBuffer().catch(() => undefined);
  return undefined;
}

/** The hash of a file's bytes, or the status of another answer. */
async function read({ address, cookie }: Browser, id: string): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    const response = await fetch(`${address}/api/files/${id}`, { headers: { cookie } }).catch(
      () => undefined,
    );
    const bytes = await response?.arrayBuffer().catch(() => undefined);
    if (response?.status === 200 && bytes) return createHash("sha1").update(Buffer.from(bytes)).digest("hex");
    if (response?.status === 404 || tries > 20) return String(response?.status);
    await sleep(250);
  }
}

/** Does what the replicas would do a day later, twice at once. */
async function collectAll({ rig }: Stage): Promise<number> {
  const config = readConfig({ ...envIn(rig.dir), REDIS_URL: "redis://127.0.0.1:1" });
  const keys = createKeys("");
  const parts = {
    files: new Files(rig.admin, keys),
    blobs: createBlobs(config.files.address, config.files.spool),
    users: new Users(rig.admin, keys, config),
    log: pino({ level: "silent" }),
  };
  const [one, other] = [new Collector(parts), new Collector(parts)];
  let removed = 0;
  for (let more = true; more;) {
    const due = await rig.admin.zcard("{files}:due");
    const [here, there] = await Promise.all(
      [one, other].map((collector) => collector.collect(Date.now() + LATER_MS)),
    );
    removed += Math.max(here ?? 0, there ?? 0);
    more = due > 0;
  }
  return removed;
}
