import { execFile, execFileSync, spawn } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { parts, root } from "./prepare.mjs";

const folder = mkdtempSync(join(tmpdir(), "hubbub prepare "));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a line of JavaScript that has prepare.mjs of the checkout in `cwd`; resolves with what it prints. */
async function run(cwd: string, code: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const script = `import * as prepare from ${JSON.stringify(`file://${encodeURI(cwd)}/scripts/prepare.mjs`)}; ${code}`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
    cwd,
    env: { ...process.env, ...env },
  });
  return stdout;
}

const template = makeProject();

function project(): string {
  const place = mkdtempSync(join(folder, "project "));
  cpSync(template, place, { recursive: true });
  return place;
}

/** A project with a development package from a file, so that installing it needs no registry. */
function makeProject(): string {
  const place = join(folder, "template");
  mkdirSync(place);
  mkdirSync(join(place, "scripts"));
  for (const name of ["run.mjs", "prepare.mjs"])
    cpSync(join(root, "scripts", name), join(place, "scripts", name));
  mkdirSync(join(place, "dependency"));
  writeFileSync(
    join(place, "dependency/package.json"),
    JSON.stringify({ name: "dependency", version: "1.0.0" }),
  );
  execFileSync("npm", ["pack", "./dependency", "--silent"], { cwd: place });
  const devDependencies = { dependency: "file:dependency-1.0.0.tgz" };
  writeFileSync(
    join(place, "package.json"),
    JSON.stringify({ name: "project", version: "1.0.0", devDependencies }),
  );
  execFileSync("npm", ["install", "--package-lock-only", "--silent"], { cwd: place });
  return place;
}

describe("install", () => {
  it("always installs development packages, and once for two processes that start together", async () => {
    const place = project();
    const env = {
      NODE_ENV: "production",
      npm_config_omit: "dev",
      npm_config_production: "true",
      npm_execpath: "",
    };
    const both = await Promise.all([1, 2].map(() => run(place, "await prepare.install()", env)));
    expect(both.join("").match(/Installing/g)).toHaveLength(1);
    expect(readFileSync(join(place, "node_modules/dependency/package.json"), "utf8")).toContain("1.0.0");
    expect(readdirSync(join(place, ".cache"))).toEqual([]);
    expect(await run(place, "await prepare.install()")).toBe("");
  });

  it("installs again if the lock file changed or an installation was interrupted", async () => {
    const place = project();
    const fits = "console.log(prepare.packagesFit({ dev: true }), prepare.packagesFit({ dev: false }))";
    expect(await run(place, fits)).toBe("false false\n");
    await run(place, "await prepare.install()");
    expect(await run(place, fits)).toBe("true true\n");
    const lock = readFileSync(join(place, "package-lock.json"), "utf8");
    writeFileSync(
      join(place, "package-lock.json"),
      lock.replaceAll('"version": "1.0.0"', '"version": "1.0.1"'),
    );
    expect(await run(place, fits)).toBe("false true\n");
    writeFileSync(join(place, "package-lock.json"), lock);
    rmSync(join(place, "node_modules/.package-lock.json"));
    expect(await run(place, fits)).toBe("false false\n");
  });

  it.each([{ os: ["nowhere"] }, { cpu: ["abacus"] }, { libc: ["sand"] }])(
    "installs again if the packages are of another platform: %j",
    async (platform) => {
      const place = project();
      await run(place, "await prepare.install()");
      for (const name of ["package-lock.json", "node_modules/.package-lock.json"]) {
        const lock = JSON.parse(readFileSync(join(place, name), "utf8")) as {
          packages: Record<string, object>;
        };
        const found = lock.packages["node_modules/dependency"];
        lock.packages["node_modules/dependency"] = { ...found, ...platform, optional: true };
        writeFileSync(join(place, name), JSON.stringify(lock));
      }
      expect(await run(place, "console.log(prepare.packagesFit({ dev: true }))")).toBe("false\n");
    },
  );

  it("takes over from a process that died with the lock", async () => {
    const place = project();
    mkdirSync(join(place, ".cache"));
    const gone = execFileSync(process.execPath, ["-p", "process.pid"], { encoding: "utf8" }).trim();
    writeFileSync(join(place, ".cache/install.lock"), gone);
    expect(await run(place, "await prepare.install()")).toContain("Installed");
  });
});

describe("run.mjs", () => {
  it("reports a Node that is too old, in one line", async () => {
    for (const [version, old] of [
      ["18.20.4", true],
      ["20.18.1", true],
      ["22.11.0", true],
      ["20.19.0", false],
      ["26.1.0", false],
    ] as const) {
      const versions = `Object.defineProperty(process,"versions",{value:{...process.versions,node:"${version}"}})`;
      const args = [
        "--import",
        `data:text/javascript,${encodeURIComponent(versions)}`,
        "scripts/run.mjs",
        "nothing",
      ];
      const failed = await promisify(execFile)(process.execPath, args, { cwd: root }).catch(
        (error: unknown) => error,
      );
      const { code, stderr } = failed as { code: number; stderr: string };
      expect(stderr.trim().split("\n")).toHaveLength(1);
      if (old) expect(stderr).toContain(`this is Node ${version}. Take Node 24`);
      else expect(stderr).toContain('There is no command "nothing"');
      expect(code).toBe(old ? 1 : 64);
    }
  });
});

describe("a command into a pipe that is read late", () => {
  const place = join(folder, "much to say");
  mkdirSync(join(place, "scripts"), { recursive: true });
  for (const name of ["run.mjs", "prepare.mjs"])
    cpSync(join(root, "scripts", name), join(place, "scripts", name));
  for (const name of ["package.json", "package-lock.json", "server"])
    symlinkSync(join(root, name), join(place, name));
  symlinkSync(join(root, "node_modules"), join(place, "node_modules"));
  writeFileSync(
    join(place, "scripts/much.ts"),
    `export async function main([how]: string[]) {
      const all = "x".repeat(1_000_000);
      if (how === "refused") throw Object.assign(new Error(all), { exitCode: 64 });
      console.log(all);
      return 3;
    }`,
  );

  it.each([
    ["done", "2>/dev/null", 3],
    ["refused", "2>&1 >/dev/null", 64],
  ])("says all of it before it ends, if it is %s", async (how, streams, code) => {
    const command = `(node scripts/run.mjs much ${how} ${streams}; echo $? >code) | (sleep 3; wc -c)`;
    const { stdout } = await promisify(execFile)("sh", ["-c", command], { cwd: place });
    expect(Number(stdout)).toBe(1_000_001);
    expect(readFileSync(join(place, "code"), "utf8")).toBe(`${code}\n`);
  });

  it("ends with its code if nobody reads on", async () => {
    const child = spawn(process.execPath, ["scripts/run.mjs", "much", "done"], {
      cwd: place,
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout.destroy();
    expect(await new Promise((resolve) => child.once("exit", resolve))).toBe(3);
  });
});

describe("build", () => {
  it("has all that the client takes from the server among the client's sources", () => {
    const server = JSON.parse(readFileSync(join(root, "server/package.json"), "utf8")) as {
      exports: Record<string, string>;
    };
    const taken = Object.values(server.exports).map((path) => join("server", path));
    expect(parts.client.sources).toEqual(expect.arrayContaining(taken));
  });

  it("builds a part again when its sources changed, by content, and leaves the other alone", async () => {
    const copy = join(folder, "a check out");
    for (const name of [
      "package.json",
      "package-lock.json",
      "tsconfig.base.json",
      "server",
      "client",
      "scripts",
    ]) {
      cpSync(join(root, name), join(copy, name), {
        recursive: true,
        filter: (path) => !/\/(dist|node_modules|dist\.\w+)$/.test(path),
      });
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const build = (...args: string[]) =>
      promisify(execFile)(process.execPath, ["scripts/run.mjs", "build", ...args], { cwd: copy });

    const both = await Promise.all([build(), build()]);
    const said = both.map(({ stdout }) => stdout).join("");
    expect(said.match(/Built server\/dist/g)).toHaveLength(1);
    expect(said.match(/Built client\/dist/g)).toHaveLength(1);
    expect(readdirSync(join(copy, "server/dist"))).toContain("append.lua");
    expect(readdirSync(join(copy, "client/dist"))).toContain("index.html");

    const source = join(copy, "server/src/main.ts");
    writeFileSync(source, readFileSync(source));
    writeFileSync(join(copy, "server/src/new.test.ts"), "");
    expect((await build()).stdout).toBe("");
    writeFileSync(join(copy, "server/src/store/append.lua"), "-- changed", { flag: "a" });
    expect((await build()).stdout).toMatch(/^Built server\/dist in .*\n$/);
    expect(readFileSync(join(copy, "server/dist/append.lua"), "utf8")).toContain("-- changed");

    writeFileSync(source, "const broken = ;");
    await expect(build()).rejects.toMatchObject({ code: 1 });
    // The earlier build still exists, and does not count as the present one.
    expect(readdirSync(join(copy, "server/dist"))).toContain("main.js");
    await expect(build()).rejects.toMatchObject({ code: 1 });
    expect(readdirSync(join(copy, "server")).filter((name) => name.startsWith("dist"))).toEqual(["dist"]);
  }, 120_000);
});
