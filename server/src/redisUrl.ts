import { isIPv6 } from "node:net";

/**
 * REDIS_URL, read by one function. `shown` may appear in logs and messages: scheme, hosts, path; never the
 * credentials.
 *
 * | address | what |
 * |---|---|
 * | `redis://[user:password@]host[:6379][/db]` | one Redis |
 * | `unix://[user:password@]/path/redis.sock[?db=0]` | one Redis on a socket of this machine |
 * | `redis+sentinel://[user:password@]host[:26379],host[:26379][/name[/db]]` | the group that a Sentinel watches |
 * | `redis+cluster://[user:password@]host[:6379],host[:6379]` | a Cluster |
 *
 * With `rediss` for `redis` each of them speaks TLS. Options follow a question mark: see OPTIONS.
 */
export type RedisAddress = {
  shown: string;
  username?: string;
  password?: string;
  /** Present if the connection to the data uses TLS. Files are paths, read when it connects. */
  tls?: Tls;
} & (
  | { kind: "one"; nodes: [Node]; db: number; family: number }
  | { kind: "socket"; path: string; db: number }
  | {
      kind: "sentinel";
      nodes: Node[];
      name: string;
      db: number;
      family: number;
      /** How to connect to the Sentinels themselves. */
      sentinel: { username?: string; password?: string; tls?: Tls };
      nat: Nat;
    }
  | { kind: "cluster"; nodes: Node[]; family: number; nat: Nat }
);

export type Node = { host: string; port: number };
export type Tls = { ca?: string; cert?: string; key?: string; servername?: string };
/** From an address that a Sentinel or Cluster names, as `host:port`, to the one that is reachable from here. */
type Nat = Record<string, Node>;
type Kind = RedisAddress["kind"];

const SCHEMES: Record<string, { kind: Kind; tls: boolean }> = {
  redis: { kind: "one", tls: false },
  rediss: { kind: "one", tls: true },
  unix: { kind: "socket", tls: false },
  "redis+unix": { kind: "socket", tls: false },
  "redis+sentinel": { kind: "sentinel", tls: false },
  "rediss+sentinel": { kind: "sentinel", tls: true },
  "redis+cluster": { kind: "cluster", tls: false },
  "rediss+cluster": { kind: "cluster", tls: true },
};

const NETWORK: readonly Kind[] = ["one", "sentinel", "cluster"];

/** The options, and the kinds of address that take them. */
const OPTIONS: Record<string, { kinds: readonly Kind[]; means: string }> = {
  db: { kinds: ["one", "socket", "sentinel"], means: "number of the database" },
  tls: { kinds: NETWORK, means: "on or off, as the schemes with and without the second s" },
  ca: { kinds: NETWORK, means: "file with the certificate to trust, PEM" },
  cert: { kinds: NETWORK, means: "file with our own certificate, PEM" },
  key: { kinds: NETWORK, means: "file with its key, PEM" },
  servername: { kinds: NETWORK, means: "name in the other side's certificate, where it is not the host" },
  family: { kinds: NETWORK, means: "4 or 6: only such addresses of a host name" },
  sentinelUsername: { kinds: ["sentinel"], means: "user at the Sentinels" },
  sentinelPassword: { kinds: ["sentinel"], means: "password at the Sentinels" },
  sentinelTls: { kinds: ["sentinel"], means: "on or off, where the Sentinels differ from the data" },
  nat: { kinds: ["sentinel", "cluster"], means: "inside:port=outside:port, several by comma" },
};

const LIST =
  "redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://";
const ESCAPES = "write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23 and % as %25";

/** What is wrong with REDIS_URL, with the cure. Never quotes an address that cannot be read. */
function fault(says: string): Error {
  return new Error(`REDIS_URL ${says}`);
}

/** Throws one Error for people; never repeats what it could not read. */
export function parseRedisUrl(given: string): RedisAddress {
  const url = given.trim();
  if (url === "") throw fault(`is empty. It begins with one of ${LIST}`);
  if (/^["'`]/.test(url))
    throw fault("begins with a quote, which whoever set it meant for a shell: take the quotes off");
  const [, before = "", rest = ""] = /^([^:/?#@\s]*):\/\/([^]*)$/.exec(url) ?? [];
  const scheme = before.toLowerCase();
  const known = SCHEMES[scheme];
  if (!known) {
    throw fault(
      url.includes("://")
        ? `has a scheme that Hubbub does not know. It begins with one of ${LIST}`
        : `has no scheme. It begins with one of ${LIST}: redis://host:6379, unix:///path/redis.sock`,
    );
  }
  const { kind } = known;

  // At most one @ may be unescaped, before the first host; any other would make part of a password a host.
  const question = rest.indexOf("?");
  const body = question < 0 ? rest : rest.slice(0, question);
  const slash = body.indexOf("/");
  const authority = slash < 0 ? body : body.slice(0, slash);
  const at = rest.indexOf("@");
  if (rest.includes("#") || at >= authority.length || at !== rest.lastIndexOf("@")) {
    throw fault(
      `cannot be read: user or password hold a character that must be escaped. In them ${ESCAPES}` +
        (kind === "one" || kind === "socket" ? "" : ". They are given once, before the first host"),
    );
  }
  const logIn = authority.slice(0, Math.max(at, 0));
  const hosts = authority.slice(at + 1);
  const path = slash < 0 ? "" : body.slice(slash + 1);
  const options = readOptions(question < 0 ? "" : rest.slice(question + 1), kind);

  const colon = logIn.indexOf(":");
  if (colon < 0 && logIn !== "")
    throw fault(
      "has a user without a password: a password alone stands behind a colon, as in redis://:password@host",
    );
  const username = decode(logIn.slice(0, Math.max(colon, 0)));
  const password = colon < 0 ? "" : decode(logIn.slice(colon + 1));
  const shared = { ...(username && { username }), ...(password && { password }) };

  if (kind === "socket") {
    if (hosts !== "" || slash < 0 || path === "")
      throw fault("names no file: a socket has an absolute path, as in unix:///run/redis/redis.sock");
    const file = `/${decode(path)}`;
    return { kind, ...shared, path: file, db: numberOf(options["db"] ?? "0"), shown: `unix://${file}` };
  }

  const tlsOn = flag(options, "tls") ?? known.tls;
  if (known.tls && !tlsOn)
    throw fault("asks for TLS by its scheme and against it by tls=off: keep one of them");
  const sentinelTls = flag(options, "sentinelTls") ?? tlsOn;
  const files = tlsOf(options);
  if (Object.keys(files).length > 0 && !tlsOn && !sentinelTls)
    throw fault("has options for TLS, but no TLS: begin it with rediss instead of redis");
  const family = familyOf(options["family"]);
  const tls = tlsOn ? { tls: files } : {};
  const nodes = hosts.split(",").map((node) => readNode(node, kind === "sentinel" ? 26_379 : 6_379));
  const [first] = nodes;
  if (!first) throw fault("names no host");
  const secure = tlsOn ? "rediss" : "redis";
  const list = nodes.map(show).join(",");

  if (kind === "one") {
    if (nodes.length > 1)
      throw fault(
        "names several hosts: begin it with redis+sentinel:// or redis+cluster://, whichever they are",
      );
    const db = readDatabase(path, options);
    const shown = `${secure}://${list}${db ? `/${db}` : ""}`;
    return { kind, ...shared, ...tls, nodes: [first], db, family, shown };
  }
  const nat = readNat(options["nat"]);
  if (kind === "cluster") {
    if (path !== "" && path !== "0")
      throw fault("names a database, and a Cluster has only database 0: end it after the last host");
    return { kind, ...shared, ...tls, nodes, family, nat, shown: `${secure}+cluster://${list}` };
  }
  const [group = "", database = "", ...more] = path.split("/");
  if (more.length > 0)
    throw fault(
      "has too many slashes: after the Sentinels come the name of the group and the database, " +
        "as in redis+sentinel://host:26379/mymaster/0",
    );
  const name = group || "mymaster";
  if (!/^[\w.-]+$/.test(name))
    throw fault("has a name of the group with other characters than letters, digits and _ . -");
  const db = readDatabase(database, options);
  const sentinel = {
    ...(options["sentinelUsername"] && { username: options["sentinelUsername"] }),
    ...(options["sentinelPassword"] && { password: options["sentinelPassword"] }),
    ...(sentinelTls && { tls: files }),
  };
  const shown = `${secure}+sentinel://${list}/${name}${db ? `/${db}` : ""}`;
  return { kind, ...shared, ...tls, nodes, name, db, family, sentinel, nat, shown };
}

/** `host:port`, an IPv6 address in brackets. */
export function show({ host, port }: Node): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function readOptions(query: string, kind: Kind): Record<string, string> {
  const possible = Object.entries(OPTIONS).filter(([, { kinds }]) => kinds.includes(kind));
  const options: Record<string, string> = {};
  for (const pair of query.split("&").filter(Boolean)) {
    const equals = pair.indexOf("=");
    const name = equals < 0 ? pair : pair.slice(0, equals);
    if (!possible.some(([option]) => option === name)) {
      const list = possible.map(([option, { means }]) => `${option} (${means})`).join("; ");
      throw fault(
        `has an option that does not exist for this kind of address. There are: ${list}. In values write & as %26`,
      );
    }
    if (equals < 0 || equals === pair.length - 1)
      throw fault(`has the option ${name} without a value: ${name}=...`);
    if (name in options) throw fault(`has the option ${name} twice`);
    options[name] = decode(pair.slice(equals + 1));
  }
  return options;
}

function flag(options: Record<string, string>, name: "tls" | "sentinelTls"): boolean | undefined {
  const value = options[name];
  if (value !== undefined && value !== "on" && value !== "off") throw fault(`has ${name} neither on nor off`);
  return value === undefined ? undefined : value === "on";
}

function tlsOf({ ca, cert, key, servername }: Record<string, string>): Tls {
  if (Boolean(cert) !== Boolean(key))
    throw fault("has only one of the options cert and key: a certificate needs its key");
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), ...(servername && { servername }) };
}

function familyOf(value: string | undefined): number {
  if (value === undefined || value === "0") return 0;
  if (value !== "4" && value !== "6") throw fault("has a family that is neither 4 nor 6");
  return Number(value);
}

function readDatabase(path: string, options: Record<string, string>): number {
  const asked = options["db"];
  if (path !== "" && asked !== undefined && path !== asked)
    throw fault("names two databases, one in the path and one as the option db: keep one of them");
  return numberOf(path || asked || "0");
}

function numberOf(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw fault("names a database that is no number: redis://host:6379/0");
  return Number(text);
}

function readNat(text: string | undefined): Nat {
  if (text === undefined) return {};
  const pairs = text.split(",").map((pair) => {
    const [inside, outside, ...more] = pair.split("=");
    if (!inside || !outside || more.length > 0)
      throw fault("has a nat that is not inside:port=outside:port, several by comma");
    const { host, port } = readNode(inside, 0);
    const found = readNode(outside, 0);
    if (port === 0 || found.port === 0) throw fault("has a nat without ports: inside:port=outside:port");
    // Without brackets, as Redis and ioredis write it.
    return [`${host}:${port}`, found] as const;
  });
  return Object.fromEntries(pairs);
}

function readNode(text: string, defaultPort: number): Node {
  if (isIPv6(text)) throw fault("names an IPv6 address without brackets: write [::1]:6379");
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(text) ?? [];
  if (bracketed === undefined && plain === undefined)
    throw fault(
      `has a host that cannot be read: host:port, an IPv6 address in brackets. In user and password ${ESCAPES}`,
    );
  const host = bracketed === undefined ? (plain ?? "") : decode(bracketed);
  if (host === "") throw fault("names no host: redis://host:6379; several by comma, without an empty one");
  if (bracketed !== undefined && !isIPv6(host)) throw fault("has brackets around what is no IPv6 address");
  if (bracketed === undefined && !/^[\w.-]+$/.test(host))
    throw fault(`has a host with characters that no host name has. In user and password ${ESCAPES}`);
  if (port === undefined) return { host, port: defaultPort };
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535)
    throw fault(
      `has a port that is no number from 1 to 65535. User and password end with an @, and in them ${ESCAPES}`,
    );
  return { host, port: Number(port) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw fault(`has a % that escapes nothing. In user, password and options ${ESCAPES}`);
  }
}
