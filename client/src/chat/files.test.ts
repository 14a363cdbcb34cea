import type { Message } from "@hubbub/server/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, PATIENCE_MS, replicas, until, type House } from "../../../server/src/testing.ts";
import { createChatClient } from "./chat.ts";
import { createApi } from "./api.ts";
import { createDrafts, threadSlot } from "./drafts.ts";
import { createFiles } from "./files.ts";
import { createProfile, headlessWorld, type Profile } from "./headless.ts";
import { createScope } from "./scope.ts";
import { initialState } from "./state/state.ts";
import type { Clock, World } from "./world.ts";

let house: House;
beforeAll(async () => {
  house = await replicas(2, { FILES_MAX: "1000" });
});
afterAll(() => house.close());

const PASSWORD = "correct horse";
let names = 0;

/** A tab of a profile, whose uploads `upload` may stand in for. */
function openTab(profile: Profile = createProfile(), upload?: World["upload"]) {
  const world = headlessWorld(both(house)[0].address, profile);
  const chat = createChatClient({ ...world, ...(upload && { upload }) });
  chat.openRoom("0");
  const messages = (): readonly Message[] => chat.snapshot().rooms?.get("0")?.log?.messages ?? [];
  return {
    chat,
    profile,
    world,
    online: () => until(() => chat.snapshot().connection === "online", PATIENCE_MS, "the connection"),
    async signUp() {
      await chat.signUp(`files${(names += 1)}`, PASSWORD);
      await this.online();
    },
    states: () => chat.snapshot().outgoing.map(({ state }) => state),
    /** How many files are kept here. */
    kept: () => [...profile.files.values()].reduce((sum, { size }) => sum + size, 0),
    stored: (text: string) => messages().find(({ message }) => message === text),
    storedWith: (file: string) => messages().find(({ files }) => files?.some(({ name }) => name === file)),
  };
}

const given = (name: string, bytes = "some bytes") => ({
  name,
  type: "text/plain",
  bytes: new Blob([bytes]),
});

/** An upload that begins, and ends only with its signal. */
function neverEnding() {
  const begun: string[] = [];
  const upload: World["upload"] = (_path, { headers, signal }) => {
    begun.push(headers["X-File-Name"] ?? "");
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  return { begun, upload };
}

test("files are sent with their message in the order in which they were added, and kept until then", async () => {
  const tab = openTab();
  await tab.signUp();
  const other = await person(both(house)[1], `files${(names += 1)}`);
  await tab.chat.addFiles("0", [given("first ✓.txt"), given("second.txt")]);
  await tab.chat.addFiles("0", [given("third.txt", "x")]);
  tab.chat.setDraft("0", "three files");
  expect([tab.kept(), tab.chat.snapshot().drafts.has("files 0")]).toEqual([3, true]);
  tab.chat.send("0");
  expect(tab.chat.snapshot().drafts.size).toBe(0);
  const heard = await other.hears("three files", PATIENCE_MS);
  expect(heard.files?.map(({ name, size }) => [name, size])).toEqual([
    ["first ✓.txt", 10],
    ["second.txt", 10],
    ["third.txt", 1],
  ]);
  await until(() => tab.kept() === 0);
  expect((await tab.chat.fileLimits()).used).toBe(21);
  tab.chat.close();
  other.close();
});

test("files alone make a message, also an answer in a thread", async () => {
  const tab = openTab();
  await tab.signUp();
  tab.chat.setDraft("0", "the question");
  tab.chat.send("0");
  await until(() => tab.stored("the question") !== undefined);
  const question = tab.stored("the question");
  const seq = question?.seq ?? 0;
  const slot = threadSlot("0", seq);
  await tab.chat.addFiles(slot, [given("answer.txt")]);
  tab.chat.send("0", question);
  await until(() => tab.storedWith("answer.txt") !== undefined);
  expect(tab.storedWith("answer.txt")).toMatchObject({ message: "", replyTo: seq });
  tab.chat.close();
});

test("a file that the server refuses fails its message, which leaves nothing once it is removed", async () => {
  const tab = openTab();
  await tab.signUp();
  await tab.chat.addFiles("0", [given("good.txt"), given("large.txt", "x".repeat(1_001))]);
  tab.chat.send("0");
  await until(() => tab.states().includes("failed"));
  const [entry] = tab.chat.snapshot().outgoing;
  expect(entry).toMatchObject({ state: "failed", failure: { code: "too_large" } });
  expect((await tab.chat.fileLimits()).used).toBe(10);
  tab.chat.discard(entry?.nonce ?? "");
  await until(async () => (await tab.chat.fileLimits()).used === 0);
  expect([tab.kept(), tab.states()]).toEqual([0, []]);
  tab.chat.close();
});

/** An upload that a proxy answers by its own page. */
function turnedAway(status: number) {
  const begun: string[] = [];
  const upload = async (_path: string, { headers }: Parameters<World["upload"]>[1]) => {
    begun.push(headers["X-File-Name"] ?? "");
    return { ok: false, status, text: `<html><title>${status}</title></html>` };
  };
  return { begun, upload };
}

test.each([
  [413, "too_large", "Too large: a proxy in front of the server does not let it through."],
  [403, "forbidden", "A proxy in front of the server refuses “refused.txt”."],
])(
  "a file that a proxy refuses with %i fails its message, and is not uploaded again",
  async (status, code, message) => {
    const { begun, upload } = turnedAway(status);
    const tab = openTab(undefined, upload);
    await tab.signUp();
    await tab.chat.addFiles("0", [given("refused.txt")]);
    tab.chat.send("0");
    await until(() => tab.states().includes("failed"));
    expect(tab.chat.snapshot().outgoing[0]).toMatchObject({ failure: { code, message } });
    expect(begun).toEqual(["refused.txt"]);
    tab.chat.close();
  },
);

test.each([404, 502, 503, 504])("a file that a proxy turns away with %i is tried again", async (status) => {
  const { begun, upload } = turnedAway(status);
  const tab = openTab(undefined, upload);
  await tab.signUp();
  await tab.chat.addFiles("0", [given("later.txt")]);
  tab.chat.send("0");
  await until(() => begun.length === 2);
  expect(tab.states()).toEqual(["waiting"]);
  tab.chat.close();
});

test.each([
  ["was changed", () => Promise.reject(new DOMException("It was changed.", "NotReadableError"))],
  ["was deleted, which looks empty", () => Promise.resolve(new ArrayBuffer(0))],
])("a file that %s fails its message, and holds up no other", async (what, arrayBuffer) => {
  const bytes = Object.assign(new Blob(["some bytes"]), {
    slice: () => Object.assign(new Blob(), { arrayBuffer }),
  });
  const tab = openTab(undefined, () => Promise.reject(new Error("No answer came")));
  await tab.signUp();
  await tab.chat.addFiles("0", [{ ...given("lost.txt"), bytes }]);
  tab.chat.send("0");
  tab.chat.setDraft("0", `after one that ${what}`);
  tab.chat.send("0");
  await until(() => tab.stored(`after one that ${what}`) !== undefined);
  const [entry] = tab.chat.snapshot().outgoing;
  expect(entry).toMatchObject({
    state: "failed",
    failure: { code: "invalid", message: "“lost.txt” cannot be read any more. Add it again." },
  });
  tab.chat.close();
});

test("a message is cancelled during its upload, which ends, and is the draft again, or if there is another waits in its place", async () => {
  const { begun, upload } = neverEnding();
  const tab = openTab(undefined, upload);
  await tab.signUp();
  tab.chat.setDraft("0", "to be answered");
  tab.chat.send("0");
  await until(() => tab.states().length === 0);
  const first = tab.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1) ?? null;
  const write = async () => {
    await tab.chat.addFiles("0", [given("slow.txt")]);
    tab.chat.setDraft("0", "chosen words");
    tab.chat.answer("0", first);
    return new Map(tab.chat.snapshot().drafts);
  };
  const cancel = () => tab.chat.cancel(tab.chat.snapshot().outgoing[0]?.nonce ?? "");
  const written = await write();
  tab.chat.send("0");
  await until(() => begun.length === 1);
  expect(tab.chat.snapshot().uploads.size).toBe(1);
  expect(cancel()).toBe(true);
  await until(() => tab.chat.snapshot().uploads.size === 0);
  expect([tab.states(), tab.chat.snapshot().drafts, tab.kept()]).toEqual([[], written, 1]);

  tab.chat.send("0");
  await until(() => begun.length === 2);
  tab.chat.answer("0", first);
  expect(cancel()).toBe(true);
  await until(() => tab.chat.snapshot().uploads.size === 0);
  const [left] = tab.chat.snapshot().outgoing;
  expect(left).toMatchObject({ state: "failed", message: "chosen words" });
  if (left !== undefined) expect(tab.chat.edit(left)).toBe(false);
  tab.chat.discard(left?.nonce ?? "");
  await until(() => tab.kept() === 0);
  tab.chat.close();
});

test("a failed message that is written anew is an answer only if it was one", async () => {
  const tab = openTab();
  await tab.signUp();
  tab.chat.setDraft("0", "to be answered");
  tab.chat.send("0");
  await until(() => tab.states().length === 0);
  await tab.chat.addFiles("0", [given("large.txt", "x".repeat(1_001))]);
  tab.chat.send("0");
  await until(() => tab.states().includes("failed"));
  tab.chat.answer("0", tab.chat.snapshot().rooms?.get("0")?.log?.messages.at(-1) ?? null);
  const [entry] = tab.chat.snapshot().outgoing;
  if (entry === undefined) throw new Error("nothing has failed");
  expect(tab.chat.edit(entry)).toBe(false);
  expect(tab.chat.snapshot().drafts.has("0")).toBe(false);
  tab.chat.close();
});

test("an upload goes on in the next page, with what the draft still has", async () => {
  const { begun, upload } = neverEnding();
  const first = openTab(undefined, upload);
  await first.signUp();
  await first.chat.addFiles("0", [given("sent.txt")]);
  first.chat.setDraft("0", "sent before the reload");
  first.chat.send("0");
  await first.chat.addFiles("0", [given("not sent.txt")]);
  await until(() => begun.length === 1);
  first.chat.close();
  const second = openTab(first.profile);
  await second.chat.start();
  await until(() => second.storedWith("sent.txt")?.message === "sent before the reload");
  await until(() => second.kept() === 1);
  second.chat.send("0");
  await until(() => second.storedWith("not sent.txt") !== undefined);
  await until(() => second.kept() === 0);
  second.chat.close();
});

test("a file is left to the tab in which it was added, which may alone have its bytes, while that is open", async () => {
  let end = () => {};
  const started: string[] = [];
  const profile = createProfile();
  const { upload } = headlessWorld(both(house)[0].address, profile);
  const first = openTab(profile, async (path, asked) => {
    started.push("here");
    await new Promise<void>((resolve) => (end = resolve));
    return upload(path, asked);
  });
  await first.signUp();
  await first.chat.addFiles("0", [given("large.txt")]);
  first.chat.send("0");
  await until(() => started.length === 1);
  const second = openTab(profile, (path, asked) => {
    started.push("elsewhere");
    return upload(path, asked);
  });
  // What the browser does not keep is only in the first tab.
  const [kept] = [...profile.files.values()];
  kept?.clear();
  await second.chat.start();
  await second.online();
  await until(() => second.states().length === 1);
  // Nothing but time tells that the second tab begins nothing.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect([started, second.states()]).toEqual([["here"], ["waiting"]]);
  end();
  await until(() => second.storedWith("large.txt") !== undefined);
  for (const { chat } of [first, second]) chat.close();
});

/** A clock that goes on when it is told. */
function createClock() {
  let time = 0;
  const timers = new Set<{ at: number; go: () => void }>();
  const clock: Clock = {
    now: () => time,
    date: () => time,
    after(ms, go) {
      const timer = { at: time + ms, go };
      timers.add(timer);
      return () => timers.delete(timer);
    },
  };
  function pass(ms: number) {
    time += ms;
    for (const timer of timers) if (timer.at <= time && timers.delete(timer)) timer.go();
  }
  return { clock, pass };
}

test.each([
  ["half is on its way is cut off after a minute", 0.5, 60],
  ["the system has taken everything is cut off once also a very slow line had carried it", 1, 60 + 800],
])("an upload without an answer of which %s", async (_, part, seconds) => {
  // The servers of this file, which go on, keep the real time.
  const { clock, pass } = createClock();
  const profile = createProfile();
  const body = new Blob([new Uint8Array(1_600_000)]);
  const store = profile.openFiles("1");
  await store.put("key", body);
  const scope = createScope(clock);
  let [begun, isCut] = [false, false];
  const files = createFiles({
    clock,
    upload: (_path, { signal, progress }) => {
      progress(part * body.size);
      begun = true;
      return new Promise((__, reject) =>
        signal.addEventListener("abort", () => {
          isCut = true;
          reject(new Error("aborted"));
        }),
      );
    },
    openChannel: (name, heard) => profile.openChannel(name, heard),
    userId: "1",
    store,
    ours: new Set(["key"]),
    ready: () => true,
    scope,
    chat: { state: initialState, dispatch: () => {} },
    api: createApi(() => Promise.reject(new Error("not asked"))),
    drafts: createDrafts("1", profile.openDrafts(), () => {}),
  });
  const file = { key: "key", name: "slow.bin", type: "", size: body.size };
  const end = files.upload(file, "0", new AbortController().signal).catch((error: unknown) => error);
  await until(() => begun);
  pass(seconds * 1_000 - 1);
  expect(isCut).toBe(false);
  pass(1);
  expect(isCut).toBe(true);
  expect(await end).toMatchObject({ code: "unreachable" });
  scope.close();
});

test("a log-out forgets all files, and nobody else who uses the browser gets them", async () => {
  const { begun, upload } = neverEnding();
  const tab = openTab(undefined, upload);
  await tab.signUp();
  await tab.chat.addFiles("0", [given("mine.txt")]);
  tab.chat.send("0");
  await tab.chat.addFiles("0", [given("mine too.txt")]);
  await until(() => begun.length === 1);
  const [key = ""] = [...tab.profile.files.values()].flatMap((kept) => [...kept.keys()]);
  await tab.chat.logOut();
  expect(tab.kept()).toBe(0);
  await tab.signUp();
  expect([await tab.chat.fileBytes(key), tab.states(), tab.chat.snapshot().drafts.size]).toEqual([
    null,
    [],
    0,
  ]);
  tab.chat.close();
});

test("a failed message is edited together with its files", async () => {
  const tab = openTab();
  await tab.signUp();
  await tab.chat.addFiles("0", [given("kept.txt")]);
  tab.chat.setDraft("0", "x".repeat(4_001));
  tab.chat.send("0");
  await until(() => tab.states().includes("failed"));
  const [entry] = tab.chat.snapshot().outgoing;
  if (entry === undefined) throw new Error("nothing failed");
  expect(tab.chat.edit(entry)).toBe(true);
  expect(tab.states()).toEqual([]);
  tab.chat.setDraft("0", "shorter");
  tab.chat.send("0");
  await until(() => tab.storedWith("kept.txt")?.message === "shorter");
  expect((await tab.chat.fileLimits()).used).toBe(10);
  tab.chat.close();
});

test("a failed message that is edited, and sent before what handles files has heard of it, has its files", async () => {
  const profile = createProfile();
  const refusal = JSON.stringify({ code: "forbidden", message: "Not now." });
  const first = openTab(profile, async () => ({ ok: false, status: 403, text: refusal }));
  await first.signUp();
  await first.chat.addFiles("0", [given("precious.txt")]);
  first.chat.setDraft("0", "precious");
  first.chat.send("0");
  await until(() => first.states().includes("failed"));
  first.chat.close();
  const second = openTab(profile);
  await second.chat.start();
  await until(() => second.states().includes("failed"));
  const [entry] = second.chat.snapshot().outgoing;
  if (entry === undefined) throw new Error("nothing failed");
  expect(second.chat.edit(entry)).toBe(true);
  second.chat.send("0");
  await until(() => second.storedWith("precious.txt")?.message === "precious");
  await until(() => second.kept() === 0);
  second.chat.close();
});

test("what an earlier page has left behind is forgotten, but nothing that a draft or a message has", async () => {
  const { upload } = neverEnding();
  const first = openTab(undefined, upload);
  await first.signUp();
  await first.chat.addFiles("0", [given("sent.txt")]);
  first.chat.send("0");
  await first.chat.addFiles("0", [given("listed.txt")]);
  first.chat.close();
  const [kept] = [...first.profile.files.values()];
  const before = [...(kept?.keys() ?? [])];
  kept?.set("1-left behind", new Blob(["x"]));
  const young = `${Date.now()}-young`;
  kept?.set(young, new Blob(["x"]));
  const second = openTab(first.profile, upload);
  await second.chat.start();
  await until(() => kept?.has("1-left behind") === false);
  expect([...(kept?.keys() ?? [])]).toEqual([...before, young]);
  second.chat.close();
});
