import { expect, test } from "vitest";
import { joinTabs } from "./tabs.ts";

type Locks = Pick<LockManager, "request">;

/** Locks of one browser: a request is held until its work ends, or another one steals it. */
function createLocks() {
  const line: (() => void)[] = [];
  let rob: (() => void) | undefined;
  const aborted = () => new DOMException("aborted", "AbortError");
  const request = (_name: string, { steal, signal }: LockOptions, work: () => Promise<unknown> | undefined) =>
    new Promise((resolve, reject) => {
      const hold = async () => {
        rob = () => reject(aborted());
        resolve(await work());
        rob = undefined;
        line.shift()?.();
      };
      const start = () => void hold();
      signal?.addEventListener("abort", () => {
        if (line.includes(start)) line.splice(line.indexOf(start), 1);
        reject(aborted());
      });
      if (steal) rob?.();
      if (steal || rob === undefined) start();
      else line.push(start);
    });
  return { request } as Locks;
}

function refusing(name: string) {
  let asked = 0;
  const request = () => {
    asked += 1;
    // Whoever asks for ever would keep this test from ending.
    return asked > 100 ? new Promise(() => {}) : Promise.reject(new DOMException("not here", name));
  };
  return { locks: { request } as Locks, asked: () => asked };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test("of several tabs one leads, the one that claims it, and the next when it goes", async () => {
  const locks = createLocks();
  const leads = [false, false, false];
  const tabs = leads.map((_, index) => joinTabs("1", locks, (now) => (leads[index] = now)));
  await settled();
  expect(leads).toEqual([true, false, false]);
  tabs[2]?.claim();
  await settled();
  expect(leads).toEqual([false, false, true]);
  tabs[2]?.leave();
  await settled();
  expect(leads.slice(0, 2).filter(Boolean)).toHaveLength(1);
});

test.each(["SecurityError", "InvalidStateError", "NotSupportedError"])(
  "a tab whose browser refuses locks with a %s leads, and asks once",
  async (name) => {
    const { locks, asked } = refusing(name);
    let leads = false;
    const tabs = joinTabs("1", locks, (now) => (leads = now));
    await settled();
    expect([leads, asked()]).toEqual([true, 1]);
    tabs.claim();
    tabs.leave();
    await settled();
    expect(asked()).toBe(1);
  },
);

test("a tab that has left does not lead, whatever its locks say later", async () => {
  const told: boolean[] = [];
  const { locks } = refusing("SecurityError");
  joinTabs("1", locks, (leads) => told.push(leads)).leave();
  await settled();
  expect(told).toEqual([]);
});
