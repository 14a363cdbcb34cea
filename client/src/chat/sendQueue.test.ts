import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createDrafts, filesSlot, replySlot } from "./drafts.ts";
import { createSendQueue, type Field } from "./sendQueue.ts";
import { filesIn, toText } from "./state/files.ts";
import type { DraftStore } from "./world.ts";

const SLOT = "0";

/**
 * A field with a user's drafts, and all that was sent from it. A text with "?" is sent once `answer` has said so.
 * `rested`: nothing waits any more.
 */
function createField(rested = () => {}) {
  const kept = new Map<string, string>();
  const store: DraftStore = {
    keys: () => [...kept.keys()],
    get: (key) => kept.get(key) ?? null,
    set: (key, value) => void kept.set(key, value),
    remove: (key) => void kept.delete(key),
    watch: () => () => {},
  };
  const drafts = createDrafts("1", store, () => {});
  const sent: { text: string; files: string[] }[] = [];
  const heard: boolean[] = [];
  const queue = createSendQueue((waits) => {
    heard.push(waits);
    if (!waits) rested();
  });
  const questions: ((yes: boolean) => void)[] = [];
  const world = { isRefused: false };
  let settle: ((all: boolean) => void) | undefined;
  let adding: Promise<boolean> | undefined;

  const field: Field = {
    written: () => ({
      said: drafts.read(SLOT),
      answered: drafts.read(replySlot(SLOT)),
      files: drafts.read(filesSlot(SLOT)),
    }),
    write: (text) => drafts.write(SLOT, text),
    confirm: (text) => !text.includes("?") || new Promise((done) => questions.push(done)),
    send({ said, answered, files }) {
      if (world.isRefused) return false;
      const keys = filesIn(files?.text).map(({ key }) => key);
      sent.push({ text: said?.text ?? "", files: keys });
      drafts.take(SLOT, said);
      drafts.take(replySlot(SLOT), answered);
      drafts.write(filesSlot(SLOT), toText(shownFiles().filter(({ key }) => !keys.includes(key))));
      return true;
    },
  };

  function shownFiles() {
    return filesIn(drafts.read(filesSlot(SLOT))?.text);
  }

  return {
    sent,
    heard,
    world,
    text: () => drafts.read(SLOT)?.text ?? "",
    files: () => shownFiles().map(({ key }) => key),
    write: (text: string) => drafts.write(SLOT, text),
    enter: () => queue.add(field, adding),
    /** Begins to add a file, if none is being added. */
    begin() {
      adding ??= new Promise((done) => (settle = done));
    },
    /** It is added, or refused. */
    end(key: string | null) {
      if (key !== null && adding !== undefined)
        drafts.write(
          filesSlot(SLOT),
          toText([...shownFiles(), { key, name: key, type: "text/plain", size: 1 }]),
        );
      settle?.(key !== null);
      adding = undefined;
    },
    answer: (yes: boolean) => questions.shift()?.(yes),
    /** Until all promises that can resolve have. */
    rest: () => new Promise((resolve) => setTimeout(resolve)),
  };
}

describe("the send queue", () => {
  test("sends at once where nothing is to be waited for", () => {
    const field = createField();
    field.write("one");
    field.enter();
    expect(field.sent).toEqual([{ text: "one", files: [] }]);
    expect(field.text()).toBe("");
  });

  test("sends a text with the files that were being added, and the next one after it", async () => {
    const field = createField();
    field.begin();
    field.write("look");
    field.enter();
    field.write("look and this");
    field.enter();
    expect(field.sent).toEqual([]);
    expect(field.heard.at(-1)).toBe(true);
    field.end("a picture");
    await field.rest();
    expect(field.sent).toEqual([
      { text: "look", files: ["a picture"] },
      { text: "and this", files: [] },
    ]);
    expect([field.text(), field.heard.at(-1)]).toEqual(["", false]);
  });

  test("writes all texts in the field again if a file is refused", async () => {
    const field = createField();
    field.begin();
    field.write("look");
    field.enter();
    field.write("quick, an answer");
    field.enter();
    field.write("and");
    field.end(null);
    await field.rest();
    expect(field.sent).toEqual([]);
    expect(field.text()).toBe("look\nquick, an answer\nand");
    field.write("anew");
    field.enter();
    expect(field.sent).toEqual([{ text: "anew", files: [] }]);
  });

  test("lets what is sent during a question wait for its answer", async () => {
    const field = createField();
    field.write("lunch?");
    field.enter();
    field.write("who pays");
    field.enter();
    await field.rest();
    expect([field.sent, field.text()]).toEqual([[], "who pays"]);
    field.answer(true);
    await field.rest();
    expect(field.sent.map(({ text }) => text)).toEqual(["lunch?", "who pays"]);
  });

  test("sends no file that was removed during the question", async () => {
    const field = createField();
    field.begin();
    field.end("one");
    field.write("lunch?");
    field.enter();
    field.begin();
    field.end("two");
    field.answer(true);
    await field.rest();
    expect([field.sent, field.files()]).toEqual([[{ text: "lunch?", files: ["one"] }], ["two"]]);
  });

  test("loses no text that was sent, sends none twice, and keeps their order", async () => {
    const act = fc.oneof(
      fc.record({ is: fc.constant("write" as const), asks: fc.boolean(), goesOn: fc.boolean() }),
      fc.record({ is: fc.constantFrom("enter" as const, "begin" as const, "rest" as const) }),
      fc.record({
        is: fc.constantFrom("end" as const, "answer" as const, "refuse" as const),
        yes: fc.boolean(),
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 40 }), async (acts) => {
        let entered: string[] = [];
        const field = createField(() => {
          const sent = field.sent.flatMap(({ text }) => wordsIn(text));
          const all = [...sent, ...wordsIn(field.text())];
          expect(new Set(all).size).toBe(all.length);
          expect(all).toEqual(expect.arrayContaining(entered));
          // What is in the field again may be written anew.
          entered = entered.filter((word) => sent.includes(word));
          expect(sent).toEqual(entered);
        });
        let count = 0;
        for (const one of acts) {
          if (one.is === "write") {
            count += 1;
            const word = `<${count}${one.asks ? "?" : ""}>`;
            field.write(one.goesOn && field.text() !== "" ? `${field.text()} ${word}` : word);
          } else if (one.is === "enter" && field.text() !== "") {
            for (const word of wordsIn(field.text())) if (!entered.includes(word)) entered.push(word);
            field.enter();
          } else if (one.is === "begin") field.begin();
          else if (one.is === "end") field.end(one.yes ? `file ${(count += 1)}` : null);
          else if (one.is === "answer") field.answer(one.yes);
          else if (one.is === "refuse") field.world.isRefused = !one.yes;
          if (one.is === "rest") await field.rest();
        }
        field.world.isRefused = false;
        for (let left = 2 * acts.length; left > 0; left -= 1) {
          field.end("the last");
          field.answer(true);
          await field.rest();
        }
        expect(entered).toEqual(field.sent.flatMap(({ text }) => wordsIn(text)));
        const files = [...field.sent.flatMap((one) => one.files), ...field.files()];
        expect(new Set(files).size).toBe(files.length);
      }),
      { numRuns: 300 },
    );
  });
});

function wordsIn(text: string): string[] {
  return text.match(/<\d+\??>/g) ?? [];
}
