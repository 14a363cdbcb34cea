import { spawn, type ChildProcess } from "node:child_process";
import type { Orders } from "./generator.ts";
import { bundleScript } from "./systems.ts";
import { CORE, pin } from "../machine.ts";

/** A generator process and its orders, each of them a call. */
export type Generator = {
  pid: number;
  order: <Name extends keyof Orders>(
    name: Name,
    ...given: Parameters<Orders[Name]>
  ) => ReturnType<Orders[Name]>;
  stop: () => Promise<void>;
};

export async function startGenerator(): Promise<Generator> {
  const file = await bundleScript("generator.ts");
  const child: ChildProcess = spawn("taskset", ["-c", String(CORE.load), process.execPath, file], {
    // Its own group for the scheduler, and out of reach of Ctrl-C; it ends when our channel closes.
    detached: true,
    stdio: ["ignore", 2, 2, "ipc"],
  });
  pin(child.pid ?? 0, CORE.load);
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let lastId = 0;
  let over = false;
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => {
      over = true;
      for (const { reject } of waiting.values()) reject(new Error("the generator ended"));
      resolve();
    });
  });
  child.on("message", ({ id, value, error }: { id: number; value: never; error?: string }) => {
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) asked?.resolve(value);
    else asked?.reject(new Error(error));
  });
  return {
    pid: child.pid ?? 0,
    order: ((name: string, order?: unknown) =>
      new Promise((resolve, reject) => {
        if (over) return reject(new Error("the generator has ended"));
        lastId += 1;
        waiting.set(lastId, { resolve, reject });
        child.send({ id: lastId, name, order });
      })) as Generator["order"],
    async stop() {
      if (!over) child.disconnect();
      await ended;
    },
  };
}
