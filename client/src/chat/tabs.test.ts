import { expect, test } from "vitest";
import { createLocks, createProfile, type Profile } from "./headless.ts";
import { joinTabs } from "./tabs.ts";
import { systemClock } from "./world.ts";

type Locks = Pick<LockManager, "request">;

function refusing(name: string) {
  let asked = 0;
  const request = () => {
    asked += 1;
    // Whoever asks for ever would keep this test from ending.
    return asked > 100 ? new Promise(() => {}) : Promise.reject(new DOMException("not here", name));
  };
  return { locks: { request } as Locks, asked: () => asked };
}

/** What a tab needs, of a browser with or without locks. */
const inBrowser = (locks?: Locks, profile: Pick<Profile, "openChannel"> = createProfile()) => ({
  clock: systemClock,
  random: Math.random,
  openChannel: profile.openChannel.bind(profile),
  locks,
});

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test.each([
  ["locks", createLocks()],
  ["words", undefined],
])(
  "of several tabs one leads by %s, the one that claims it, and the next when it goes",
  async (_way, locks) => {
    const needs = inBrowser(locks);
    const leads = [false, false, false];
    const who = () => leads.flatMap((leader, index) => (leader ? [index] : []));
    const open = (index: number) => joinTabs("1", needs, (now) => (leads[index] = now));
    const first = open(0);
    await expect.poll(who).toEqual([0]);
    const [second, third] = [open(1), open(2)];
    await settled();
    expect(who()).toEqual([0]);
    third.claim();
    await expect.poll(who).toEqual([2]);
    // Of two that claim it at once, one has it.
    first.claim();
    second.claim();
    await settled();
    expect(who()).toHaveLength(1);
    third.claim();
    await expect.poll(who).toEqual([2]);
    third.leave();
    leads[2] = false;
    await expect.poll(who).toHaveLength(1);
    for (const tab of [first, second]) tab.leave();
  },
);

test("without locks a lead is free once its page is left, and for a new tab if its page says nothing more", async () => {
  const profile = createProfile();
  const silent = new Set<number>();
  const leads: boolean[] = [];
  const who = () => leads.flatMap((leader, index) => (leader ? [index] : []));
  function open() {
    const index = leads.push(false) - 1;
    // A page that is asleep hears and says nothing.
    const openChannel: Profile["openChannel"] = (name, heard) => {
      const channel = profile.openChannel(name, (word) => silent.has(index) || heard(word));
      return { ...channel, tell: (word) => silent.has(index) || channel.tell(word) };
    };
    return joinTabs("1", inBrowser(undefined, { openChannel }), (now) => (leads[index] = now));
  }
  const first = open();
  await expect.poll(who).toEqual([0]);
  const second = open();
  first.leaving();
  await expect.poll(who).toEqual([1]);
  silent.add(1);
  const third = open();
  await expect.poll(who).toEqual([1, 2]);
  // It wakes, and is claimed from once more.
  silent.delete(1);
  third.claim();
  first.claim();
  await expect.poll(who).toHaveLength(1);
  for (const tab of [first, second, third]) tab.leave();
});

test.each(["SecurityError", "InvalidStateError", "NotSupportedError"])(
  "a tab whose browser refuses locks with a %s leads, and asks once",
  async (name) => {
    const { locks, asked } = refusing(name);
    let leads = false;
    const tabs = joinTabs("1", inBrowser(locks), (now) => (leads = now));
    await expect.poll(() => leads).toBe(true);
    expect(asked()).toBe(1);
    tabs.claim();
    tabs.leave();
    await settled();
    expect(asked()).toBe(1);
  },
);

test("a tab that has left does not lead, whatever its locks say later", async () => {
  const told: boolean[] = [];
  const { locks } = refusing("SecurityError");
  joinTabs("1", inBrowser(locks), (leads) => told.push(leads)).leave();
  // Longer than tabs wait for who leads.
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(told).toEqual([]);
});
