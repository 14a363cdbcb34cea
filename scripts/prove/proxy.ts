import { connect, createServer, type Socket } from "node:net";

/** A connection's purpose: from the name that server/src/store/redis.ts gives it, or from a Redis replica's first command. */
export type Purpose = "commands" | "subscriptions" | "replication";

type Link = {
  near: Socket;
  far: Socket;
  purpose: Purpose | undefined;
  dropsReplies: boolean;
  lostBytes: number;
};

export type Filter = (link: Pick<Link, "purpose">) => boolean;

export type FaultProxy = {
  port: number;
  /** The number of open connections that match `filter`. */
  count: (filter?: Filter) => number;
  /** Discards answers from now on, until `cut`. Requests still arrive. */
  dropReplies: (filter: Filter) => void;
  /** The bytes of discarded answers. */
  lostBytes: () => number;
  /** Discards answers for which `doomed` is true. */
  lose: (doomed: ((chunk: Buffer) => boolean) | undefined) => void;
  lostChunks: () => number;
  /** Resets connections; answers how many. */
  cut: (filter?: Filter) => number;
  /** Lets nothing pass in either direction, as if a cable were pulled, also on new connections. Closes none. */
  blackhole: (filter: Filter) => void;
  /** Resets new connections as soon as their purpose is known, and at once if it is unknown. */
  refuse: (filter: Filter | undefined) => void;
  /** Lets everything pass again; what was held arrives late. */
  heal: () => void;
  close: () => void;
};

const EVERY: Filter = () => true;

/** A TCP proxy on a free port of 127.0.0.1 that can be told to misbehave. */
export async function startFaultProxy(target: number): Promise<FaultProxy> {
  const links = new Set<Link>();
  let holds: Filter | undefined;
  let drops: Filter | undefined;
  let doomed: ((chunk: Buffer) => boolean) | undefined;
  let refuses: Filter | undefined;
  let lostBytes = 0;
  let lostChunks = 0;

  const server = createServer((near) => {
    near.on("error", () => {});
    if (refuses?.({ purpose: undefined })) {
      near.resetAndDestroy();
      return;
    }
    near.setNoDelay(true);
    const far = connect({ port: target, host: "127.0.0.1", noDelay: true });
    const link: Link = { near, far, purpose: undefined, dropsReplies: false, lostBytes: 0 };
    links.add(link);
    near.on("data", (chunk: Buffer) => {
      learn(link, chunk);
      if (refuses?.(link)) {
        near.resetAndDestroy();
        return;
      }
      far.write(chunk);
      if (holds?.(link)) hold(link);
    });
    far.on("data", (chunk: Buffer) => {
      if (link.dropsReplies) {
        lostBytes += chunk.length;
        return;
      }
      if (doomed?.(chunk)) {
        lostChunks += 1;
        return;
      }
      near.write(chunk);
    });
    const over = () => {
      links.delete(link);
      near.destroy();
      far.destroy();
    };
    far.on("error", () => {});
    near.on("close", over);
    far.on("close", () => {
      // The far side is gone: reset the near side too.
      if (!near.destroyed) near.resetAndDestroy();
      over();
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();

  function learn(link: Link, chunk: Buffer): void {
    if (link.purpose) return;
    const text = chunk.toString("latin1");
    const purpose = /hubbub-(commands|subscriptions)/.exec(text)?.[1];
    if (purpose) link.purpose = purpose as Purpose;
    if (/\r\n(PSYNC|REPLCONF)\r\n/i.test(text)) link.purpose = "replication";
    if (drops?.(link)) link.dropsReplies = true;
  }

  function hold(link: Link): void {
    link.near.pause();
    link.far.pause();
  }

  return {
    port: typeof address === "object" && address ? address.port : 0,
    count: (filter = EVERY) => [...links].filter(filter).length,
    dropReplies(filter) {
      drops = filter;
      for (const link of links) if (filter(link)) link.dropsReplies = true;
    },
    lostBytes: () => lostBytes,
    lose: (test) => (doomed = test),
    lostChunks: () => lostChunks,
    cut(filter = EVERY) {
      drops = undefined;
      const chosen = [...links].filter(filter);
      for (const link of chosen) {
        link.near.resetAndDestroy();
        link.far.destroy();
      }
      return chosen.length;
    },
    blackhole(filter) {
      holds = filter;
      for (const link of links) if (filter(link)) hold(link);
    },
    refuse: (filter) => (refuses = filter),
    heal() {
      holds = undefined;
      drops = undefined;
      doomed = undefined;
      refuses = undefined;
      for (const link of links) {
        link.near.resume();
        link.far.resume();
      }
    },
    close() {
      server.close();
      for (const link of links) {
        link.near.destroy();
        link.far.destroy();
      }
    },
  };
}
