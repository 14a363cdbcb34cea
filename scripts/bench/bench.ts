import { parseArgs } from "node:util";
import { startGenerator } from "./drive.ts";
import type { LoadOrder, LoadResult } from "./generator.ts";
import { SYSTEMS, type SystemName, type SystemUnderTest, type Town } from "./systems.ts";

export async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      system: { type: "string", multiple: true, default: ["hubbub", "socket.io classic"] },
      rate: { type: "string", multiple: true, default: ["20", "100", "400", "1000"] },
      members: { type: "string", default: "500" },
      seconds: { type: "string", default: "10" },
      warm: { type: "string", default: "5" },
      warmrate: { type: "string" },
      repeats: { type: "string", default: "1" },
      quietrooms: { type: "boolean", default: false },
      env: { type: "string", multiple: true, default: [] },
      nodearg: { type: "string", multiple: true, default: [] },
    },
  });
  for (let repeat = 0; repeat < Number(values.repeats); repeat += 1) {
    for (const name of values.system as SystemName[]) {
      for (const rate of values.rate.map(Number)) {
        const count = Number(values.members);
        const town: Town = values.quietrooms
          ? {
              roomIds: Array.from({ length: count / 10 }, (_, index) => String(index + 1)),
              members: Array.from({ length: count }, (_, index) => ({ rooms: [Math.floor(index / 10)] })),
            }
          : { roomIds: ["0"], members: Array.from({ length: count }, () => ({ rooms: [0] })) };
        const env = Object.fromEntries(values.env.map((pair) => pair.split("=", 2) as [string, string]));
        const result = await runOnce(name, town, env, values.nodearg, {
          rate,
          arrivals: values.quietrooms ? "poisson" : "even",
          warmSeconds: Number(values.warm),
          warmRate: Number(values.warmrate ?? rate),
          measureSeconds: Number(values.seconds),
          drainSeconds: 60,
          bytes: 200,
        });
        console.log(name, rate, JSON.stringify(result));
      }
    }
  }
  return 0;
}

async function runOnce(
  name: SystemName,
  town: Town,
  env: Record<string, string>,
  nodeArgs: string[],
  load: Omit<LoadOrder, "parts">,
): Promise<LoadResult> {
  const system: SystemUnderTest = await SYSTEMS[name]({ town, env, nodeArgs });
  try {
    const generator = await startGenerator();
    try {
      const connected = await generator.order("connect", {
        host: system.host,
        port: system.ports[0] ?? 0,
        dialect: system.dialect,
        members: system.members,
        roomIds: town.roomIds,
        concurrency: 50,
      });
      if (connected.failed.length > 0) throw new Error(`connections failed: ${connected.failed.join("; ")}`);
      for (let still = 0; still < 4;) {
        await new Promise((resolve) => setTimeout(resolve, 500));
        const { otherFrames } = await generator.order("quiet");
        still = otherFrames === 0 ? still + 1 : 0;
      }
      const result = await generator.order("load", { ...load, parts: system.parts });
      await generator.order("close");
      return result;
    } finally {
      await generator.stop();
    }
  } finally {
    await system.stop();
  }
}
