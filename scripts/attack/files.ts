import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { deflateSync, crc32 } from "node:zlib";
import { outcome, type Attack, type Scene } from "./scene.ts";
import type { Person, Replica } from "./stage.ts";
import { ask, codeOf, type Answer } from "./wire.ts";

/** Files and images: what is in them, who gets them, and what they cost. */

/** What one replica may take more while files come and go. */
const MORE_MB = 120;
/** The same while nobody reads what it sends: connections and what waits for them. */
const UNREAD_MB = 60;
const GB = 1e9;
const CHUNK = Buffer.alloc(65_536, 7);

type Sent = { name?: string; roomId?: string; headers?: Record<string, string>; at?: Replica };

function upload(
  { left }: Scene,
  person: Person,
  body: Buffer,
  { name = "x", roomId = "0", headers = {}, at = left }: Sent = {},
): Promise<Answer> {
  const own = { "x-room-id": roomId, "x-file-name": encodeURIComponent(name), "content-type": "image/png" };
  return ask(at.port, "/api/files", person, {
    method: "POST",
    body,
    headers: { ...own, ...headers },
    timeoutMs: 120_000,
  });
}

function idIn({ body }: Answer): string {
  return (JSON.parse(body) as { id?: string }).id ?? "";
}

/** A black PNG of any size, in a few bytes for each row: zeros compress a thousandfold. */
export function blackPng(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const named = Buffer.concat([Buffer.from(type), data]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(named));
    return Buffer.concat([length, named, check]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([1, 0, 0, 0, 0], 8);
  const rows = deflateSync(Buffer.alloc((Math.ceil(width / 8) + 1) * height), { level: 9 });
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]),
    chunk("IHDR", head),
    chunk("IDAT", rows),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** The most that the left replica takes while `work` runs, in MB above what it took before. */
async function weighed({ left, sleep }: Scene, work: () => Promise<void>): Promise<number> {
  await sleep(300);
  const before = left.memory();
  let most = before;
  const weighing = setInterval(() => (most = Math.max(most, left.memory())), 20);
  await work().finally(() => clearInterval(weighing));
  return (most - before) / 1e6;
}

/** Streams a body of any length; answers the status, 0 if the connection was cut. */
function pour(
  { left }: Scene,
  { from, cookie }: Person,
  bytes: number,
  headers: Record<string, string> = { "content-length": String(bytes) },
): Promise<{ status: number; body: string }> {
  return new Promise((resolve) => {
    const sent = request({
      host: "127.0.0.1",
      port: left.port,
      localAddress: from,
      path: "/api/files",
      method: "POST",
      headers: {
        origin: `http://127.0.0.1:${left.port}`,
        cookie,
        "x-room-id": "0",
        "x-file-name": "big",
        ...headers,
      },
    });
    let rest = bytes;
    const write = () => {
      while (rest > 0 && !sent.destroyed) {
        const part = CHUNK.subarray(0, Math.min(CHUNK.length, rest));
        rest -= part.length;
        if (!sent.write(part)) {
          sent.once("drain", write);
          return;
        }
      }
      sent.end();
    };
    sent.once("error", () => resolve({ status: 0, body: "" }));
    sent.once("response", (response) => {
      let body = "";
      response.on("data", (part: Buffer) => (body += part.toString()));
      response.once("end", () => {
        resolve({ status: response.statusCode ?? 0, body });
        sent.destroy();
      });
      response.once("error", () => undefined);
    });
    write();
  });
}

export const FILES: Attack[] = [
  {
    number: 42,
    title: "SVG, HTML and scripts as `.png`, a picture that is also a page, a ZIP as `.jpg`; paths in names",
    answer:
      "the bytes say what it is; saved and never shown, as `application/octet-stream`; a picture is written anew",
    async play(scene) {
      const { person, get, must, twin } = scene;
      const mary = await person();
      const script = "<script>alert(document.cookie)</script>";
      const gif = Buffer.concat([
        Buffer.from("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff", "latin1"),
        Buffer.from("!\xfe\x28", "latin1"),
        Buffer.from(script.padEnd(40)),
        Buffer.from("\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;", "latin1"),
        Buffer.from(script),
      ]);
      for (const [what, bytes] of Object.entries({
        svg: Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`),
        xml: Buffer.from(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`),
        html: Buffer.from(`<!doctype html>${script}`),
        "utf-16 html": Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(script, "utf16le")]),
        script: Buffer.from("alert(1)"),
        zip: Buffer.from("504b03041400000000000000", "hex"),
        pdf: Buffer.from(`%PDF-1.7\n${script}`),
        "picture and page": gif,
      })) {
        const answer = await upload(scene, mary, bytes, { name: `../../${what}\u202Egnp.png\u0000` });
        if (answer.status !== 201) {
          must(["invalid", "too_large"].includes(String(codeOf(answer))), `${what}: ${answer.status}`);
          continue;
        }
        const { name } = JSON.parse(answer.body) as { name: string };
        must(!/[/\\\p{C}]/u.test(name) && !name.startsWith("."), `${what} is named ${name}`);
        const got = await get(mary, `/api/files/${idIn(answer)}`);
        const { headers } = got;
        const type = String(headers["content-type"]);
        const isSaved = String(headers["content-disposition"]).startsWith("attachment");
        must(headers["x-content-type-options"] === "nosniff", `${what} lacks nosniff`);
        must(String(headers["content-security-policy"]).includes("sandbox"), `${what} lacks sandbox`);
        must(
          /^(?:image|audio)\//.test(type) || (isSaved && type === "application/octet-stream"),
          `${what}: ${type}`,
        );
        if (type.startsWith("image/")) must(!got.body.includes("<script>"), `${what} still has its page`);
      }
      const plain = await upload(scene, mary, Buffer.from("a text"), { name: "notes.txt" });
      twin(
        plain.status === 201 && (await get(mary, `/api/files/${idIn(plain)}`)).body === "a text",
        "a text",
      );
    },
  },
  {
    number: 42,
    title: "pictures of 20,000 x 20,000 and 60,000 x 60,000 pixels, and broken ones, 20 at once",
    answer: "`too_large` and `invalid` before they are decoded; others are shown",
    async play(scene) {
      const { person, must, twin } = scene;
      const mary = await person();
      const good = blackPng(300, 200);
      const more = await weighed(scene, async () => {
        const answers = await Promise.all(
          [blackPng(20_000, 20_000), blackPng(60_000, 60_000), good.subarray(0, good.length - 40)].flatMap(
            (bytes) => Array.from({ length: 7 }, () => upload(scene, mary, bytes)),
          ),
        );
        const codes = answers.map(codeOf);
        const expected = [...Array<string>(14).fill("too_large"), ...Array<string>(7).fill("invalid")];
        must(codes.join() === expected.join(), codes.join());
      });
      must(more < MORE_MB, `the replica took ${more.toFixed(0)} MB more`);
      twin((await upload(scene, mary, good)).status === 201, "a picture");
    },
  },
  {
    number: 42,
    title:
      "an empty body, one shorter and one longer than announced, one without a length, one that never ends, 1 TB announced",
    answer: "`invalid` or `too_large`, or cut off; nothing is kept",
    async play(scene) {
      const { person, admin, keys, must, twin, becomes } = scene;
      const mary = await person();
      const used = async () => Number((await admin.hget(keys.filesUsed, mary.id)) ?? 0);
      must(codeOf(await upload(scene, mary, Buffer.alloc(0))) === "invalid", "an empty body");
      const endless = await pour(scene, mary, 50e6, { "transfer-encoding": "chunked" });
      must(endless.status === 400 || endless.status === 0, `without a length: ${endless.status}`);
      const huge = await pour(scene, mary, 20e6, { "content-length": String(1e12) });
      must(huge.status === 413 || huge.status === 0, `1 TB: ${huge.status}`);
      const line = await scene.line(mary.from);
      line.write(
        `POST /api/files HTTP/1.1\r\nHost: 127.0.0.1:${scene.left.port}\r\nOrigin: http://127.0.0.1:${scene.left.port}\r\n` +
          `Cookie: ${mary.cookie}\r\nX-Room-Id: 0\r\nX-File-Name: x\r\nContent-Length: 5\r\n\r\n123456789`,
      );
      // What follows the announced bytes is no request.
      must(await becomes(() => line.isClosed || line.received.includes(" 400 "), 10_000), line.received);
      const half = await scene.line(mary.from);
      half.write(
        `POST /api/files HTTP/1.1\r\nHost: 127.0.0.1:${scene.left.port}\r\nOrigin: http://127.0.0.1:${scene.left.port}\r\n` +
          `Cookie: ${mary.cookie}\r\nX-Room-Id: 0\r\nX-File-Name: x\r\nContent-Length: 500\r\n\r\nhalf`,
      );
      must(await becomes(async () => (await used()) >= 500, 5_000), "half a body did not arrive");
      half.destroy();
      must(await becomes(async () => (await used()) === 0, 10_000), `${await used()} bytes are kept`);
      twin((await upload(scene, mary, Buffer.from("whole"))).status === 201, "a whole file");
    },
  },
  {
    number: 42,
    title:
      "files of others: by guessed and known ids, unsent, from rooms one has left, after the log-out; ranges beyond the end",
    answer: "404 in the same words as for no file; 416 for the ranges",
    async play(scene) {
      const { person, room, talker, get, must, twin } = scene;
      const [mary, joe, eve] = [await person(), await person(), await person()];
      const club = await room(mary, joe);
      const file = idIn(await upload(scene, mary, Buffer.from("0123456789"), { roomId: club }));
      const path = `/api/files/${file}`;
      const nothing = await get(eve, `/api/files/${randomBytes(16).toString("base64url")}`);
      must(nothing.status === 404, `a guess: ${nothing.status}`);
      must((await get(joe, path)).body === nothing.body, "an unsent file is told apart from none");
      const mine = await talker(mary);
      const say = (roomId: string) =>
        mine.emit("message", { roomId, message: "", nonce: randomBytes(6).toString("hex"), files: [file] });
      must(outcome(await say("0")) === "not_found", "sent to another room");
      const theirs = await talker(eve);
      const stolen = await theirs.emit("message", {
        roomId: "0",
        message: "",
        nonce: "stolen",
        files: [file],
      });
      must(outcome(stolen) === "not_found", `somebody else's file was sent: ${outcome(stolen)}`);
      must(outcome(await say(club)) === "ok", "sent to its room");
      twin((await get(joe, path)).body === "0123456789", "a member reads it");
      must((await get(eve, path)).body === nothing.body, "a stranger tells it from none");
      for (const [range, status] of [
        ["bytes=10-", 416],
        ["bytes=99999999999999999999-", 416],
        ["bytes=5-2", 416],
        ["bytes=-0", 416],
        [`bytes=${Array.from({ length: 500 }, (_, index) => `${index}-`).join(",")}`, 200],
      ] as const) {
        const got = await get(joe, path, { headers: { range } });
        must(
          [status, 200, 206].includes(got.status) && got.body.length <= 10,
          `${range.slice(0, 20)}: ${got.status}`,
        );
      }
      const his = await talker(joe);
      await his.emit("room.leave", { roomId: club });
      must((await get(joe, path)).body === nothing.body, "read after leaving");
      await scene.post(mary, "/api/logout");
      must((await get(mary, path)).status === 401, "read after the log-out");
      for (const odd of ["..%2f..%2fetc%2fpasswd", "%00", "x".repeat(22), `${file}.thumbnail`, `${file}/`])
        must([404, 401].includes((await get(eve, `/api/files/${odd}`)).status), odd);
    },
  },
  {
    number: 42,
    title: "900 downloads of a large file at once, by one user who reads none of them",
    answer:
      "20 at a time, the others wait; an unread one is cut off, and the replica's memory stays as it is",
    async play(scene) {
      const { person, get, must, twin } = scene;
      const [mary, joe] = [await person(), await person()];
      const answer = await upload(scene, mary, randomBytes(20_000_000));
      const path = `/api/files/${idIn(answer)}`;
      const small = `/api/files/${idIn(await upload(scene, joe, Buffer.from("0123456789")))}`;
      const lines = await Promise.all(Array.from({ length: 900 }, () => scene.line(mary.from)));
      const more = await weighed(scene, async () => {
        for (const line of lines) {
          line.tcp.pause();
          line.write(
            `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${scene.left.port}\r\nCookie: ${mary.cookie}\r\n\r\n`,
          );
        }
        await scene.sleep(3_000);
        twin((await get(joe, small)).body === "0123456789", "another user's download");
      });
      must(more < UNREAD_MB, `the replica took ${more.toFixed(0)} MB more`);
      for (const line of lines) line.destroy();
      twin((await drain(scene, mary, path)) === 20_000_000, "and then one that is read");
    },
  },
  {
    number: 42,
    title: "100 uploads at once by one user, and a file of 1 GB, up and down",
    answer: "a few at a time, through the disk; the replica's memory stays as it is",
    long: true,
    async play(scene) {
      const { person, must, twin } = scene;
      const [mary, joe] = [await person(), await person()];
      let spent = await weighed(scene, async () => {
        const all = await Promise.all(
          Array.from({ length: 100 }, () => upload(scene, mary, randomBytes(2_000_000))),
        );
        const done = all.filter(({ status }) => status === 201).length;
        must(done === 100, `${done} of 100 arrived: ${[...new Set(all.map(codeOf))].join()}`);
      });
      must(spent < MORE_MB, `100 uploads took ${spent.toFixed(0)} MB more`);
      let id = "";
      spent = await weighed(scene, async () => {
        const { status, body } = await pour(scene, joe, GB);
        must(status === 201, `1 GB up: ${status} ${body}`);
        ({ id } = JSON.parse(body) as { id: string });
      });
      must(spent < MORE_MB, `1 GB up took ${spent.toFixed(0)} MB more`);
      let came = 0;
      spent = await weighed(scene, async () => {
        came = await drain(scene, joe, `/api/files/${id}`);
      });
      must(spent < MORE_MB, `1 GB down took ${spent.toFixed(0)} MB more`);
      twin(came === GB, `${came} bytes came back`);
      await ask(scene.left.port, `/api/files/${id}`, joe, { method: "DELETE" });
    },
  },
];

/** Reads an answer, and keeps none of it; answers its length. */
function drain({ left }: Scene, { from, cookie }: Person, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({
      host: "127.0.0.1",
      port: left.port,
      localAddress: from,
      path,
      headers: { cookie },
    });
    asked.once("error", reject);
    asked.once("response", (response) => {
      let bytes = 0;
      response.on("data", (part: Buffer) => (bytes += part.length));
      response.once("end", () => resolve(bytes));
      response.once("error", reject);
    });
    asked.end();
  });
}
