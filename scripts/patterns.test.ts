import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { parseSync, Visitor } from "oxc-parser";
import { describe, expect, it } from "vitest";
import { sanitized, textToHtml } from "../server/src/chat/transcript.ts";
import { addressKey } from "../server/src/doors/throttle.ts";
import { findLinks } from "../server/src/links.ts";
import { parseText } from "../server/src/markdown.ts";
import { LIMITS } from "../server/src/protocol.ts";
import { root } from "./prepare.mjs";

/**
 * Every regular expression of ours reads what somebody else wrote: people, other programs, the environment. V8 tries
 * again from each character and each choice, so that the wrong pattern takes seconds for one message.
 */
type Pattern = { where: string; regExp: RegExp };

function sources(folder: string): string[] {
  return (
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      // Attacks, benchmark, proof and tests read only what they made a replica say; tables.ts reads only our own source.
      .filter(
        (file) =>
          /\.(?:ts|tsx|mjs)$/.test(file) &&
          !/\.test\.tsx?$|^(?:testing|tables)\.ts$|^(?:attack|bench|prove)\//.test(file),
      )
      .map((file) => join(folder, file))
  );
}

/** A key's prefix, which is known only at run time, is empty here. */
const atRunTime = new Proxy(
  {},
  {
    get: (_, name) => (name in globalThis ? (Reflect.get(globalThis, name) as unknown) : ""),
  },
);

/** A source file's regular expressions: literals, and `new RegExp` of the file's own constants. */
function patternsIn(file: string): Pattern[] {
  const source = readFileSync(join(root, file), "utf8");
  const { program } = parseSync(file, source);
  const found: { start: number; code: string }[] = [];
  const constants: string[] = [];
  new Visitor({
    Literal: (node) => {
      if ("regex" in node) found.push({ start: node.start, code: source.slice(node.start, node.end) });
    },
    NewExpression: ({ callee, start, end }) => {
      if (callee.type === "Identifier" && callee.name === "RegExp")
        found.push({ start, code: source.slice(start, end) });
    },
  }).visit(program);
  for (const statement of program.body) {
    if (statement.type !== "VariableDeclaration") continue;
    for (const { id, init } of statement.declarations) {
      const isText =
        init?.type === "TaggedTemplateExpression" ||
        init?.type === "TemplateLiteral" ||
        (init?.type === "ArrayExpression" && init.elements.every((element) => element?.type === "Literal"));
      if (isText && id.type === "Identifier")
        constants.push(`const ${id.name} = ${source.slice(init.start, init.end)};`);
    }
  }
  return found.map(({ start, code }) => {
    const made = runInNewContext(`{ ${constants.join("\n")}\n(${code}) }`, atRunTime) as RegExp;
    const where = `${file}:${source.slice(0, start).split("\n").length}`;
    // No text matches it, and fast-check would look for one for ever.
    if (made.source.includes("[]")) throw new Error(`${where} is made of something that is not read here`);
    return { where, regExp: new RegExp(made.source, made.flags) };
  });
}

/** Lengths with small steps at first, so that a pattern of exponential time is found before it takes hours. */
const LENGTHS = [
  ...Array.from({ length: 12 }, (_, index) => 16 + 4 * index),
  ...Array.from({ length: 20 }, (_, index) => Math.round(64 * 1.15 ** index)),
  4_000,
  32_768,
];
const ENOUGH_MS = 50;

/** Whether something takes little CPU. Tries up to three times, because others use this machine too. */
function isQuick(run: () => void): boolean {
  for (let times = 0; times < 3; times += 1) {
    const began = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(began);
    const ms = (user + system) / 1_000;
    if (ms <= ENOUGH_MS) return true;
    if (ms > 5 * ENOUGH_MS) return false;
  }
  return false;
}

/** Texts that begin like a sample, repeat one or two of its pieces up to a length, and end differently. */
function attacks(samples: fc.Arbitrary<string>): fc.Arbitrary<(length: number) => string> {
  const piece = fc
    .tuple(samples, fc.nat(), fc.integer({ min: 1, max: 12 }))
    .map(([sample, at, length]) => sample.slice(at % (sample.length + 1)).slice(0, length));
  const parts = fc.record({
    start: fc.oneof(fc.constant(""), samples, piece),
    again: piece,
    next: fc.oneof(fc.constant(""), piece),
    end: fc.constantFrom("", "\u0000", "\n", "!", "a", "é", '"'),
  });
  return parts.map(({ start, again, next, end }) => (length) => {
    const half = next === "" ? length : length / 2;
    const body =
      again.repeat(half / Math.max(1, again.length)) + next.repeat(half / Math.max(1, next.length));
    return (start.slice(0, length) + body).slice(0, length) + end;
  });
}

/** A text for which the function takes too long, or null. */
function slowest(run: (text: string) => void, samples: fc.Arbitrary<string>, runs: number): string | null {
  const holds = fc.property(attacks(samples), (attack) =>
    LENGTHS.every((length) => {
      const text = attack(length);
      return isQuick(() => run(text));
    }),
  );
  const { counterexample, seed } = fc.check(holds, { numRuns: runs, endOnFailure: true });
  return counterexample && `seed ${seed}: ${JSON.stringify(counterexample[0](60))}`;
}

/** Texts that a pattern matches, and the characters that it contains. */
function samplesOf(regExp: RegExp): fc.Arbitrary<string> {
  const signs = fc.string({
    unit: fc.constantFrom(...Array.from(regExp.source), " ", "a", "1"),
    minLength: 1,
    maxLength: 8,
  });
  try {
    const matching = fc.stringMatching(new RegExp(regExp.source, regExp.flags.replaceAll(/[^su]/g, "")));
    fc.sample(matching, 1);
    return fc.oneof({ arbitrary: matching, weight: 4 }, { arbitrary: signs, weight: 1 });
  } catch {
    // fast-check does not support lookarounds and Unicode classes.
    return signs;
  }
}

function use(regExp: RegExp): (text: string) => void {
  return (text) => {
    regExp.lastIndex = 0;
    // As `matchAll` and `replaceAll` do.
    if (regExp.global) for (const _ of text.matchAll(regExp));
    else regExp.test(text);
  };
}

describe("time grows linearly with the length", { timeout: 120_000 }, () => {
  const patterns = ["server/src", "client/src", "scripts"].flatMap(sources).flatMap(patternsIn);

  it.each([/^(\w+\s?)*$/, /[.,;:!?]+$/, /<!--.*-->/])("but not for %s, which this test finds", (regExp) => {
    // Some texts would take hours.
    const cutShort = (text: string) => {
      try {
        runInNewContext("regExp.test(text)", { regExp, text }, { timeout: 1_000 });
      } catch {
        // It was cut.
      }
    };
    expect(slowest(cutShort, samplesOf(regExp), 200)).not.toBeNull();
  });

  it("for every regular expression, on any text of its own characters", () => {
    expect(patterns.length).toBeGreaterThan(40);
    expect(patterns.filter(({ where }) => where.startsWith("server/src/store/codec.ts"))).not.toEqual([]);
    const slow = patterns.flatMap(({ where, regExp }) => {
      const attack = slowest(use(regExp), samplesOf(regExp), 60);
      return attack === null ? [] : [`${where} ${regExp} takes too long for ${attack}`];
    });
    expect(slow).toEqual([]);
  });

  const signs =
    "https:// http://x mailto: mailto:a@ x.example/ xn-- [::1] :: ::ffff: &amp; <a href= </a> ](http://x/ @ann ``` **a _b".split(
      " ",
    );
  const address = fc.constantFrom(...signs, ...Array.from(".,!?()[]{}<>\"'`-_*~\\@:/#%& a1é😀\n\u0000"));
  const texts = fc.array(address, { minLength: 1, maxLength: 8 }).map((parts) => parts.join(""));

  it.each([
    ["finding links", findLinks],
    ["formatting a text", (text: string) => parseText(text.slice(0, LIMITS.message), () => true)],
    ["making HTML of a text", (text: string) => sanitized(textToHtml(text))],
    ["making a key of an address", addressKey],
  ])("in %s", (_what, run) => {
    expect(slowest((text) => void run(text), texts, 300)).toBeNull();
  });
});
