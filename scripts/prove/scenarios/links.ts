import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { until } from "../crowd.ts";
import { createPerson } from "../person.ts";
import { linesOf, type Scenario, type Tools } from "../stage.ts";

const run = promisify(execFile);

function lacksPacketFilter({ netns, nft }: Tools): string | undefined {
  if (!netns) return "no network namespace can be made here (unshare -n)";
  return nft ? undefined : "there is no nft";
}

export const clientLinks: Scenario = {
  name: "client-links",
  title: "clients' links lose 30 % of the packets, are reset, and are cut for 6 s",
  lacks: lacksPacketFilter,
  rules: { convergeMs: 20_000 },
  async run({ rig, crowd, happened, must, fault, pause, tell }) {
    const port = new URL(rig.address).port;
    const nft = (...rule: string[]) => run("nft", rule);
    const packets = async () => {
      const { stdout } = await run("nft", ["list", "chain", "inet", "prove", "links"]);
      return [...stdout.matchAll(/packets (\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
    };
    await nft("add", "table", "inet", "prove");
    await nft("add", "chain", "inet", "prove", "links", "{ type filter hook input priority 0; }");
    const rules = async (text: string) => {
      await nft("flush", "chain", "inet", "prove", "links");
      if (text) await nft("add", "rule", "inet", "prove", "links", ...text.split(" "));
    };
    const connections = () => crowd.people.reduce((sum, one) => sum + one.connections, 0);
    await pause(2_000);

    await rules(`tcp dport ${port} numgen random mod 100 < 30 counter drop`);
    fault("30 % of the packets are lost");
    await pause(7_000);
    const dropped = await packets();
    happened(dropped > 100, `only ${dropped} packets were lost`);

    const before = connections();
    await rules(
      `tcp dport ${port} tcp flags & psh == psh numgen random mod 100 < 4 counter reject with tcp reset`,
    );
    fault("connections are reset");
    await pause(5_000);
    const reset = await packets();
    happened(reset >= 20, `only ${reset} connections were reset`);
    await rules("");
    await pause(3_000);
    const again = connections() - before;
    happened(again >= 20, `only ${again} people had to connect anew`);

    await rules(`tcp dport ${port} counter drop`);
    fault("all links are cut");
    await pause(6_000);
    happened((await packets()) > 0, "no packet was lost");
    await nft("delete", "table", "inet", "prove");
    fault("links are whole again");
    await until(() => crowd.people.every((one) => one.connected), 40_000, "everybody to be back").catch(
      () => {},
    );
    must(
      crowd.people.every((one) => one.connected),
      "somebody did not come back",
    );
    tell(`${dropped} packets lost, ${reset} resets, ${again} new connections`);
  },
};

/** How much of the replica's memory a client that reads nothing may use. */
const SLOW_MEMORY_BYTES = 20 * 1_048_576;
const SLOW_LIMIT_BYTES = 262_144;

export const slowClient: Scenario = {
  name: "slow-client",
  title: "a client stops reading while its room is busy",
  lacks: ({ netns }) =>
    netns ? undefined : "kernel buffers can only be made small in a network namespace of our own",
  rate: 40,
  rig: { env: { SLOW_CONSUMER_BYTES: String(SLOW_LIMIT_BYTES) } },
  rules: { convergeMs: 15_000 },
  async run({ rig, crowd, history, random, happened, must, fault, pause, tell }) {
    const [replica] = rig.replicas;
    const [room = ""] = crowd.private;
    const [one, other] = crowd.members.get(room) ?? [];
    if (!replica || !one || !other) throw new Error("there is nobody to be slow");
    for (const [name, sizes] of [
      ["tcp_rmem", "4096 16384 65536"],
      ["tcp_wmem", "4096 16384 65536"],
    ] as const) {
      writeFileSync(`/proc/sys/net/ipv4/${name}`, sizes);
    }
    const slow = createPerson({
      address: `http://127.0.0.1:${replica.port}`,
      name: one.name,
      history,
      random,
      nameOf: crowd.nameOf,
      cookie: one.cookie,
    });
    await slow.chat.start();
    await until(() => slow.head(room).seq > 0, 10_000, "the slow window to open");
    const tcp = Reflect.get(slow.wire()?.io.engine.transport ?? {}, "ws") as {
      _socket?: { pause: () => void; resume: () => void };
    };
    happened(tcp._socket !== undefined, "the client's TCP socket was not found");
    const memory = await replica.metric("hubbub_process_resident_memory_bytes");
    tcp._socket?.pause();
    const pausedAt = performance.now();
    fault("one window reads nothing");
    const cut = async () => (await replica.metric("hubbub_slow_consumers_cut_total")) > 0;
    const flood = setInterval(() => {
      for (const sender of [one, other]) if (sender.pending < 5) sender.say(room, "slow ".repeat(790));
    }, 10);
    await until(cut, 20_000, "the slow window to be cut", 250).catch(() => {});
    const cutMs = performance.now() - pausedAt;
    await pause(1_000);
    clearInterval(flood);
    const grown = (await replica.metric("hubbub_process_resident_memory_bytes")) - memory;
    must(await cut(), "the slow window was not cut");
    must(grown <= SLOW_MEMORY_BYTES, `the replica grew by ${Math.round(grown / 1_048_576)} MB`);
    tcp._socket?.resume();
    fault("it reads again");
    await until(
      () => slow.connected && slow.head(room).seq === one.head(room).seq && one.pending + other.pending === 0,
      20_000,
      "the slow window to catch up",
    ).catch(() => {});
    const [mine, shown] = [one.head(room), slow.head(room)];
    must(mine.seq - shown.seq < 5 && shown.settled, `the slow window shows seq ${shown.seq} of ${mine.seq}`);
    tell(
      `cut after ${(cutMs / 1_000).toFixed(1)} s, the replica grew by ${Math.round(grown / 1_048_576)} MB, caught up to seq ${shown.seq}`,
    );
    happened(
      linesOf(history, "socket closed").some((line) => line.session === one.name),
      "nothing was closed",
    );
    slow.close();
  },
};
