import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { getPriority } from "node:os";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import bcrypt from "bcrypt";
import { describe, expect, it, vi } from "vitest";
import { hashes } from "./hashThreads.ts";

/** The priorities of this process' threads: the 19th field of proc(5)'s stat, behind a name in brackets. */
function priorities(): number[] {
  return readdirSync("/proc/self/task").map((thread) =>
    Number(readFileSync(`/proc/self/task/${thread}/stat`, "utf8").split(") ").at(-1)?.split(" ")[16]),
  );
}

describe("a hash", () => {
  it("is that of the password, and of no other", async () => {
    const hash = await hashes.make("a long password", 4);
    expect(hash).toMatch(/^\$2b\$04\$.{53}$/);
    expect(await hashes.compare("a long password", hash)).toBe(true);
    expect(await hashes.compare("another password", hash)).toBe(false);
  });

  it("answers whoever asked, of many at once", async () => {
    const passwords = Array.from({ length: 20 }, (_, index) => `password ${index}`);
    const made = await Promise.all(passwords.map((password) => hashes.make(password, 4)));
    const checks = passwords.flatMap((password, mine) =>
      made.map(async (hash, theirs) => (await hashes.compare(password, hash)) === (mine === theirs)),
    );
    expect(await Promise.all(checks)).not.toContain(false);
  });

  it("is computed in a thread that stands back, while all others keep their priority", async ({ skip }) => {
    skip(process.platform !== "linux", "only on Linux a thread has a priority of its own");
    skip(getPriority() >= 10, "this process stands back itself");
    await hashes.make("a password", 4);
    expect(priorities().filter((nice) => nice === 10)).not.toEqual([]);
    expect(priorities().filter((nice) => nice !== 10)).not.toEqual([]);
  });

  it("is computed under a user who may not raise the low priority that the replica has", ({ skip }) => {
    skip(process.getuid?.() !== 0, "only root can act for another user");
    const thread = fileURLToPath(new URL("hashThread.mjs", import.meta.url));
    const program = `
      const thread = new (require("node:worker_threads").Worker)(${JSON.stringify(thread)});
      thread.on("message", ({ result }) => (console.log(result), thread.terminate()));
      thread.postMessage({ number: 1, password: "a password", cost: 4 });`;
    const lowly = ["--reuid=65534", "--clear-groups", "nice", "-n", "15"];
    const { stdout, stderr } = spawnSync("setpriv", [...lowly, process.execPath, "-e", program], {
      encoding: "utf8",
    });
    expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(/^\$2b\$04\$/), stderr: "" });
  });

  it("that cannot be computed fails alone: the next one is", async () => {
    const [failed, next] = await Promise.allSettled([
      hashes.compare("a password", 4 as never),
      hashes.make("a password", 4),
    ]);
    expect(failed).toMatchObject({
      status: "rejected",
      reason: { message: expect.stringContaining("hash must be") },
    });
    expect(next).toMatchObject({ status: "fulfilled" });
  });

  it("whose thread ends is computed all the same, and the next one in another thread", async () => {
    const instead = vi.spyOn(bcrypt, "hash");
    vi.spyOn(Worker.prototype, "postMessage").mockImplementationOnce(function (this: Worker) {
      void this.terminate();
    });
    expect(await hashes.make("a password", 4)).toMatch(/^\$2b\$04\$/);
    expect(instead).toHaveBeenCalledTimes(1);
    expect(await hashes.make("a password", 4)).toMatch(/^\$2b\$04\$/);
    expect(instead).toHaveBeenCalledTimes(1);
  });

  it("is compared all the same where no thread can be asked", async () => {
    const hash = await hashes.make("a password", 4);
    vi.spyOn(Worker.prototype, "postMessage").mockImplementation(() => {
      throw new Error("no more threads");
    });
    expect(await hashes.compare("a password", hash)).toBe(true);
    expect(await hashes.compare("another password", hash)).toBe(false);
    vi.restoreAllMocks();
  });
});
