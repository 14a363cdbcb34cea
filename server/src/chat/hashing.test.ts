import { describe, expect, it } from "vitest";
import { ChatError } from "../errors.ts";
import { Hashing, type Asker } from "./hashing.ts";

/** A queue whose hashes end on demand; `order` lists the askers as their hashes begin. */
function queue(fair = true) {
  const hashing = new Hashing(fair, 2);
  const order: string[] = [];
  const ends: (() => void)[] = [];
  const ask = (address: string, name: string | null) => {
    const asker: Asker = { address, name };
    const answer = hashing.run(asker, () => {
      order.push(`${address} ${name}`);
      return new Promise<"done">((resolve) => ends.push(() => resolve("done")));
    });
    return answer.catch((error: unknown) => (error instanceof ChatError ? error.code : String(error)));
  };
  /** Ends the running hashes, one after the other, until none is left. */
  const finish = async () => {
    await settled();
    for (let end = ends.shift(); end; end = ends.shift()) {
      end();
      await settled();
    }
  };
  return { ask, order, finish, ends };
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

describe("the queue for hashes", () => {
  it("runs two at once, and the others in order of arrival", async () => {
    const { ask, order, finish, ends } = queue();
    const answers = times(6, (index) => ask(`a${index}`, "name"));
    await settled();
    expect(ends).toHaveLength(2);
    await finish();
    expect(order).toEqual(times(6, (index) => `a${index} name`));
    expect(await Promise.all(answers)).toEqual(times(6, () => "done"));
  });

  it("serves addresses in turn: one with many requests does not delay another", async () => {
    const { ask, order, finish } = queue();
    const answers = [...times(20, (index) => ask("greedy", `n${index % 4}`)), ask("modest", "one")];
    await finish();
    expect(order.indexOf("modest one")).toBeLessThanOrEqual(3);
    expect(await Promise.all(answers)).toEqual(times(21, () => "done"));
  });

  it("serves the names of one address in turn", async () => {
    const { ask, order, finish } = queue();
    const answers = [...times(20, () => ask("office", "guessed")), ask("office", "colleague")];
    await finish();
    expect(order.indexOf("office colleague")).toBeLessThanOrEqual(3);
    expect(await Promise.all(answers)).toEqual(times(21, () => "done"));
  });

  it("refuses more than 20 waiting for one name at one address, and more than 100 at one address", async () => {
    const { ask, finish } = queue();
    const one = times(25, () => ask("a", "guessed"));
    const many = times(105, (index) => ask("b", `n${index}`));
    const signUps = times(50, () => ask("c", null));
    await finish();
    expect((await Promise.all(one)).filter((answer) => answer === "rate_limited")).toHaveLength(3);
    expect((await Promise.all(many)).filter((answer) => answer === "rate_limited")).toHaveLength(5);
    expect(new Set(await Promise.all(signUps))).toEqual(new Set(["done"]));
  });

  it("takes a newcomer when it is full, and refuses the newest of the longest line", async () => {
    const { ask, finish } = queue();
    const crowds = ["a", "b", "c"].map((address) => times(70, (index) => ask(address, `n${index}`)));
    const newcomer = ask("d", "one");
    await finish();
    expect(await newcomer).toBe("done");
    const answers = await Promise.all(crowds.map((crowd) => Promise.all(crowd)));
    const refused = answers.flat().filter((answer) => answer === "unavailable");
    expect(answers.flat().filter((answer) => answer === "done")).toHaveLength(201);
    expect(refused).toHaveLength(9);
  });

  it("refuses everybody alike at 200 if nobody asks for more than others", async () => {
    const { ask, finish } = queue();
    const answers = times(210, (index) => ask(`a${index}`, "name"));
    await finish();
    const counted = await Promise.all(answers);
    expect(counted.filter((answer) => answer === "done")).toHaveLength(202);
    expect(counted.filter((answer) => answer === "unavailable")).toHaveLength(8);
  });

  it("has room again after all hashes are done, and after a failed hash", async () => {
    const hashing = new Hashing(true);
    const failing = times(10, () =>
      hashing.run({ address: "a", name: "n" }, () => Promise.reject(new Error("broken"))),
    );
    expect((await Promise.allSettled(failing)).every(({ status }) => status === "rejected")).toBe(true);
    expect(await hashing.run({ address: "a", name: "n" }, () => Promise.resolve(1))).toBe(1);
  });
});
