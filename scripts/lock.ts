import { readFileSync } from "node:fs";
import { join } from "node:path";
import semver from "semver";
import { root } from "./prepare.mjs";

/** The parts of package-lock.json that the checks need. */
export type Lock = {
  packages: Record<
    string,
    {
      optionalDependencies?: Record<string, string>;
      engines?: { node?: string };
      optional?: boolean;
      dev?: boolean;
      version?: string;
      license?: string;
      hasInstallScript?: boolean;
      link?: boolean;
    }
  >;
};

/**
 * If the registry does not have an optional package yet, npm silently leaves it out of the lock, and then `npm ci` fails
 * everywhere. So every name in a lock entry's optionalDependencies, also for other systems and processors, must itself
 * be locked in a version that fits.
 */
export function missingOptionals(lock: Lock): string[] {
  const locked = Object.entries(lock.packages).map(([path, { version = "" }]) => ({
    name: nameOf(path),
    version,
  }));
  return Object.entries(lock.packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.entries(optionalDependencies)
      .filter(
        ([name, range]) => !locked.some((one) => one.name === name && semver.satisfies(one.version, range)),
      )
      .map(([name]) => `it lacks ${name}, which ${path || "package.json"} names`),
  );
}

/** The first release of each line of Node that package.json's `engines` allows. */
const NODES = ["20.19.0", "22.12.0", "24.0.0", "26.0.0"];

/**
 * npm installs a package that refuses this Node nevertheless, with a warning that frightens people. npm omits optional
 * packages that do not fit, but none may be missing on the oldest Node.
 */
export function unfitEngines(lock: Lock): string[] {
  return Object.entries(lock.packages).flatMap(([path, { engines, optional = false }]) =>
    NODES.slice(0, optional ? 1 : undefined)
      .filter((node) => !semver.satisfies(node, engines?.node ?? "*"))
      .map((node) => `${path || "package.json"} refuses Node ${node}: it wants ${engines?.node}`),
  );
}

/**
 * The image has only the root's node_modules, so no package that a replica needs may be locked into another folder.
 */
export function unhoisted(lock: Lock): string[] {
  return Object.entries(lock.packages).flatMap(([path, { dev = false }]) =>
    !dev && /^(server|client)\/node_modules\//.test(path)
      ? [`${path} is not in the root's node_modules`]
      : [],
  );
}

/**
 * Free licences that only require their text to be passed on, or, for Mozilla's, changes to its own files, or, for the
 * LGPL, that its library can be replaced: libvips is a file of its own in a package of its own.
 */
const LICENCES = [
  "MIT",
  "ISC",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "0BSD",
  "MPL-2.0",
  "PSF-2.0",
  "Python-2.0",
  "LGPL-3.0-or-later",
  "Apache-2.0 AND LGPL-3.0-or-later",
  "Apache-2.0 AND LGPL-3.0-or-later AND MIT",
];
/** Licences that packages state in their own files, but not where npm looks. */
const LICENCES_READ: Record<string, string> = {
  "xmlhttprequest-ssl": "MIT",
  busboy: "MIT",
  "humanize-number": "MIT",
  only: "MIT",
  streamsearch: "MIT",
};

export function unlicensed(lock: Lock): string[] {
  return foreign(lock)
    .filter(({ licence }) => !LICENCES.includes(licence))
    .map(({ name, licence }) => `${name} is under ${licence || "no licence that npm knows"}`);
}

/** Packages whose private fields we read or write, which may differ in another version. */
const KNOWN_INSIDE = [
  "@socket.io/redis-adapter",
  "engine.io",
  "ioredis",
  "socket.io",
  "socket.io-adapter",
  "socket.io-parser",
  "ws",
];

/** These packages must be requested everywhere in one exact version, the locked one. */
export function unpinned(lock: Lock, manifests: Manifest[]): string[] {
  return KNOWN_INSIDE.flatMap((name) => {
    const versions = foreign(lock).flatMap((one) => (one.name === name ? one.version : []));
    const asked = manifests.flatMap(({ dependencies, devDependencies, overrides }) =>
      [dependencies?.[name], devDependencies?.[name], overrides?.[name]].filter(
        (range) => range !== undefined,
      ),
    );
    const isExact =
      asked.length > 0 && asked.every((range) => versions.every((version) => version === range));
    return isExact
      ? []
      : [`${name} is locked in ${versions.join(", ")} and asked for as ${asked.join(", ")}`];
  });
}

/** Packages may have install scripts. Ours work without them, and npm runs none. */
export function unexpectedScripts(lock: Lock, manifests: Manifest[], npmrc: string): string[] {
  const refused = Object.entries(manifests[0]?.allowScripts ?? {}).flatMap(([name, may]) =>
    may ? [] : name,
  );
  const faults = Object.entries(lock.packages).flatMap(([path, { hasInstallScript }]) =>
    hasInstallScript && !refused.includes(nameOf(path))
      ? [`${nameOf(path)} wants to run a program at its installation`]
      : [],
  );
  return /^ignore-scripts=true$/m.test(npmrc) ? faults : [...faults, ".npmrc lets packages run programs"];
}

/** The page that lists every locked package with its licence. */
export function licencesPage(lock: Lock): string {
  const list = (chosen: ReturnType<typeof foreign>) =>
    LICENCES.flatMap((licence) => {
      const names = chosen
        .filter((one) => one.licence === licence)
        .map(({ name, version }) => `${name} ${version}`);
      return names.length === 0 ? [] : [`**${licence}**: ${[...new Set(names)].toSorted().join(", ")}.`];
    }).join("\n\n");
  const all = foreign(lock);
  return `# Licences

Hubbub is under the [MIT licence](../LICENSE). Below is every package of \`package-lock.json\`; each brings its licence's text with it. \`npm run licences\` writes this page, and \`npm test -- lock\` compares it and lets in no other licence. \`npm run sbom --silent > sbom.json\` lists the same, with a digest of each, as a CycloneDX bill of materials.

## What a replica runs

${list(all.filter(({ dev }) => !dev))}

## What builds and tests, and what the build puts into the client

React, Socket.IO's client and what they need are in the built client; the rest stays here.

${list(all.filter(({ dev }) => dev))}
`;
}

export const LICENCES_PAGE = "docs/licences.md";

export type Manifest = {
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  overrides?: Record<string, string>;
  allowScripts?: Record<string, boolean>;
};

export function readLock(): Lock {
  return JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as Lock;
}

/** Describes the faults of the lock file and of what it is made from. */
export function faultsOf(lock: Lock): string[] {
  const read = (file: string) => readFileSync(join(root, file), "utf8");
  const manifests = ["package.json", "server/package.json", "client/package.json"].map(
    (file) => JSON.parse(read(file)) as Manifest,
  );
  const page =
    read(LICENCES_PAGE) === licencesPage(lock) ? [] : [`${LICENCES_PAGE} is old: npm run licences`];
  return [
    ...missingOptionals(lock),
    ...unfitEngines(lock),
    ...unhoisted(lock),
    ...unlicensed(lock),
    ...unpinned(lock, manifests),
    ...unexpectedScripts(lock, manifests, read(".npmrc")),
    ...page,
  ];
}

/** The packages that are not our own. */
function foreign(lock: Lock): { name: string; version: string; licence: string; dev: boolean }[] {
  return Object.entries(lock.packages)
    .filter(([path, { link }]) => path.includes("node_modules/") && !link)
    .map(([path, { version = "", license, dev = false }]) => {
      const name = nameOf(path);
      return { name, version, licence: license ?? LICENCES_READ[name] ?? "", dev };
    });
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
}
