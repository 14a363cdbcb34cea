import { readFileSync } from "node:fs";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parseSync, Visitor } from "oxc-parser";
import { pino } from "pino";
import { Server, type Socket } from "socket.io";
import { io, type Socket as ClientSocket } from "socket.io-client";
import { afterAll, beforeAll, expect, it } from "vitest";
import { connectRedis } from "../store/redis.ts";
import { PATIENCE_MS, testRedisUrl } from "../testing.ts";
import { slim } from "./frames.ts";

/**
 * The private fields of other packages that we read and write. If an update drops a field, the server works on without
 * it, slower or in more memory: these tests are the only alarm.
 */
type Inside = Record<string, (value: unknown) => boolean>;

const isList = Array.isArray;
const isFunction = (value: unknown) => typeof value === "function";
const isObject = (value: unknown) => typeof value === "object" && value !== null;
const isMap = (value: unknown) => value instanceof Map;

/** A packet that is not sent yet. */
const WAITING = '2["waiting"]';

/** By path, from a connection that has a listener of each kind, has sent something, and has a packet that waits. */
const FIELDS: Inside = {
  ack: isFunction,
  acks: isMap,
  handshake: isObject,
  _anyListeners: isList,
  _events: isObject,
  "client.decoder._callbacks": (value) => isObject(value) && Object.values(value).every(isList),
  "client.sockets": isMap,
  "client.nsps": isMap,
  "conn._events": isObject,
  "conn.cleanupFn": isList,
  "conn.request": isObject,
  "conn.sentCallbackFn": isList,
  "conn.upgrading": (value) => value === false,
  "conn.writeBuffer": isList,
  "conn.writeBuffer.0.data": (value) => value === WAITING,
  "conn.transport._events": isObject,
  "conn.transport.name": (value) => value === "websocket",
  "conn.transport.socket._events": isObject,
  "conn.transport.socket._socket._events.close": isList,
  "conn.transport.socket._socket.writableLength": (value) => typeof value === "number",
  "conn.transport.socket._receiver._buffers": isList,
  "conn.transport.socket._receiver._mask": (value) => Buffer.isBuffer(value),
};

let http: HttpServer;
let server: Server;
let client: ClientSocket;
let connection: Socket;

beforeAll(async () => {
  http = createServer();
  server = new Server(http, { transports: ["websocket"], serveClient: false });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const connected = new Promise<Socket>((resolve) => server.once("connection", resolve));
  client = io(`http://127.0.0.1:${(http.address() as AddressInfo).port}`, { transports: ["websocket"] });
  connection = await connected;
  connection.onAny(() => undefined);
  connection.on("said", (answer: () => void) => answer());
  await client.timeout(PATIENCE_MS).emitWithAck("said");
  connection.conn.transport.writable = false;
  connection.conn.write(WAITING);
});

afterAll(async () => {
  client.disconnect();
  await server.close();
});

function valueAt(path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>((value, name) => Reflect.get(Object(value) as object, name), connection);
}

it.each(Object.keys(FIELDS))("a connection has the private field %s", (path) => {
  expect(FIELDS[path]?.(valueAt(path))).toBe(true);
});

it("an upgraded WebSocket still has Engine.IO's listener for the upgrade", () => {
  const webSocket = valueAt("conn.transport.socket") as NodeJS.EventEmitter;
  expect(webSocket.listeners("error").map(({ name }) => name)).toContain("onUpgradeError");
});

it("the Redis client has the stream and the command queue that gather writes", async () => {
  const redis = await connectRedis(testRedisUrl(), "commands", pino({ level: "silent" }));
  const { stream, commandQueue } = redis as unknown as Record<string, Record<string, unknown> | undefined>;
  expect(typeof commandQueue?.["length"]).toBe("number");
  expect(typeof stream?.["writableCorked"]).toBe("number");
  expect(["write", "cork", "uncork"].every((name) => isFunction(stream?.[name]))).toBe(true);
  redis.disconnect();
});

it("frames.ts uses no private field that these tests do not check", () => {
  const known = new Set(Object.keys(FIELDS).flatMap((path) => path.split(".")));
  const source = readFileSync(new URL("./frames.ts", import.meta.url), "utf8");
  const named: string[] = [];
  new Visitor({
    TSTypeAliasDeclaration: ({ id, start, end }) => {
      if (["Internals", "Received"].includes(id.name))
        named.push(...Array.from(source.slice(start, end).matchAll(/(\w+)\??: /g), ([, name = ""]) => name));
    },
  }).visit(parseSync("frames.ts", source).program);
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
});

it("a released part of a connection throws when it is read, and the connection works on", async () => {
  slim(connection as never);
  expect(() => connection.handshake.headers).toThrow("the handshake is gone");
  expect(() => connection.request.headers).toThrow();
  // With a shared table, one client could give the answer of another.
  expect(() => connection.emit("asked", () => undefined)).toThrow("no client is asked");
  connection.conn.transport.writable = true;
  await client.timeout(PATIENCE_MS).emitWithAck("said");
});
