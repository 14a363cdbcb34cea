import { expect, it } from "vitest";
import {
  faultsOf,
  licencesPage,
  missingOptionals,
  readLock,
  unexpectedScripts,
  unfitEngines,
  unhoisted,
  unlicensed,
  unpinned,
} from "./lock.ts";

it("the lock file has no faults", () => {
  expect(faultsOf(readLock())).toEqual([]);
});

it("finds a platform's package that is missing from the lock or has another version", () => {
  const packages = {
    "": {},
    "node_modules/fast": { optionalDependencies: { "@fast/linux": "1.0.0", "@fast/mac": "^1.0.0" } },
    "node_modules/@fast/linux": { version: "1.0.0" },
  };
  const fault = "it lacks @fast/mac, which node_modules/fast names";
  expect(missingOptionals({ packages })).toEqual([fault]);
  const nested = "node_modules/fast/node_modules/@fast/mac";
  expect(missingOptionals({ packages: { ...packages, [nested]: { version: "2.0.0" } } })).toEqual([fault]);
  expect(missingOptionals({ packages: { ...packages, [nested]: { version: "1.2.0" } } })).toEqual([]);
});

it("finds a package that refuses a supported Node, and one that the image would lack", () => {
  const packages = {
    "": { engines: { node: "^20.19 || >=22.12" } },
    "node_modules/new": { engines: { node: ">=22.12.0" } },
    "node_modules/old": { engines: { node: ">=10" } },
    "node_modules/any": {},
    "node_modules/@some/wasm": { engines: { node: "^20.19.0 || ^22.13.0" }, optional: true },
    "server/node_modules/@types/node": { dev: true },
    "server/node_modules/nested": {},
  };
  expect(unfitEngines({ packages })).toEqual(["node_modules/new refuses Node 20.19.0: it wants >=22.12.0"]);
  expect(unhoisted({ packages })).toEqual(["server/node_modules/nested is not in the root's node_modules"]);
});

it("finds a package with a licence that is not allowed or not known", () => {
  const packages = {
    "": { license: "MIT" },
    server: {},
    "node_modules/@hubbub/server": { link: true },
    "node_modules/free": { license: "ISC" },
    "node_modules/free/node_modules/strict": { license: "AGPL-3.0-only", dev: true },
    "node_modules/silent": {},
  };
  expect(unlicensed({ packages })).toEqual([
    "strict is under AGPL-3.0-only",
    "silent is under no licence that npm knows",
  ]);
});

it("finds a package whose private fields we use and whose version is not exact", () => {
  const lock = readLock();
  const packages = {
    ...lock.packages,
    "node_modules/engine.io-client/node_modules/ws": { version: "8.0.0" },
  };
  const exact = Object.fromEntries(
    [
      "socket.io",
      "socket.io-adapter",
      "socket.io-parser",
      "engine.io",
      "ws",
      "@socket.io/redis-adapter",
      "ioredis",
    ].map((name) => [name, lock.packages[`node_modules/${name}`]?.version ?? ""]),
  );
  expect(unpinned(lock, [{ dependencies: exact }])).toEqual([]);
  expect(unpinned({ packages }, [{ dependencies: exact }])).toEqual([
    `ws is locked in ${exact["ws"]}, 8.0.0 and asked for as ${exact["ws"]}`,
  ]);
  expect(unpinned(lock, [{ dependencies: exact }, { devDependencies: { ioredis: "^6.0.0" } }])).toHaveLength(
    1,
  );
  expect(unpinned(lock, [{ dependencies: { ...exact, ws: "~8.21.3" } }])).toHaveLength(1);
});

it("finds a package with an install script", () => {
  const packages = {
    "node_modules/native": { hasInstallScript: true },
    "node_modules/known": { hasInstallScript: true },
  };
  const manifests = [{ allowScripts: { known: false, native: true } }];
  const wanted = "native wants to run a program at its installation";
  expect(unexpectedScripts({ packages }, manifests, "fund=false\nignore-scripts=true\n")).toEqual([wanted]);
  expect(unexpectedScripts({ packages: {} }, manifests, "fund=false\n")).toEqual([
    ".npmrc lets packages run programs",
  ]);
});

it("lists every locked package with its version under its licence", () => {
  const packages = {
    "node_modules/b": { version: "1.0.0", license: "MIT" },
    "node_modules/@a/a": { version: "2.0.0", license: "MIT" },
    "node_modules/c": { version: "3.0.0", license: "MPL-2.0", dev: true },
  };
  const [, replica = "", rest = ""] = licencesPage({ packages }).split("\n## ");
  expect(replica).toContain("**MIT**: @a/a 2.0.0, b 1.0.0.");
  expect(rest).toContain("**MPL-2.0**: c 3.0.0.");
});
