import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mentionsIn, namesIn, parseText, plainOf, type Block, type Inline } from "./markdown.ts";
import { LIMITS } from "./protocol.ts";

/** A text's blocks in short form: `strong(em(a))`. */
function read(text: string, names: readonly string[] = []): string {
  return parseText(text, (name) => names.includes(name))
    .map(readBlock)
    .join("|");
}

function readBlock(block: Block): string {
  if (block.kind === "text") return block.inside.map(readInline).join("");
  if (block.kind === "code") return `code:${block.language}(${block.text})`;
  if (block.kind === "quote") return `quote(${block.inside.map(readBlock).join("|")})`;
  return `list(${block.items.map(({ number, inside }) => `${number ?? "-"} ${inside.map(readBlock).join("|")}`).join(", ")})`;
}

function readInline(part: Inline): string {
  if (part.kind === "text") return part.text;
  if (part.kind === "mention") return `mention(${part.name})`;
  if (part.kind === "code") return `code(${part.text})`;
  const inside = part.inside.map(readInline).join("");
  return part.kind === "link" ? `link:${part.href}(${inside})` : `${part.kind}(${inside})`;
}

/** Everything that a reader gets from these parts, including addresses behind links. */
function allOf(parts: readonly (Block | Inline)[]): string {
  return parts
    .map((part): string => {
      if (part.kind === "list")
        return part.items.map(({ number, inside }) => `${number ?? ""}${allOf(inside)}`).join("");
      if (part.kind === "link") {
        const inside = allOf(part.inside);
        const isShown = ["", "https://", "mailto:"].some((scheme) => `${scheme}${inside}` === part.href);
        return `${inside}${isShown ? "" : part.href}${part.title ?? ""}`;
      }
      if ("inside" in part) return allOf(part.inside);
      return part.kind === "code" && "language" in part ? part.language + part.text : part.text;
    })
    .join("");
}

describe("a text", () => {
  it.each([
    ["*a* _b_ **c** __d__ ~~e~~ `f`", "em(a) em(b) strong(c) strong(d) strike(e) code(f)"],
    ["**a *b* ~~c~~**", "strong(a em(b) strike(c))"],
    ["snake_case_name 2 * 3 * 4 ~a~ a*", "snake_case_name 2 * 3 * 4 ~a~ a*"],
    [String.raw`¯\_(ツ)_/¯ and ¯\_(ツ)_/¯`, String.raw`¯\_(ツ)_/¯ and ¯\_(ツ)_/¯`],
    [
      String.raw`\(^o^)/ \o/ C:\.git C:\a\b \\server\share \d+\.\?`,
      String.raw`\(^o^)/ \o/ C:\.git C:\a\b \\server\share \d+\.\?`,
    ],
    [
      String.raw`[a]\(https://a.example) 1\. b \@c \\*d\\*`,
      String.raw`[a](link:https://a.example(https://a.example)) 1. b @c \em(d\)`,
    ],
    [String.raw`\*a\* \[b\] \\`, String.raw`*a* [b] \ `.trimEnd()],
    ["`*a*` ``b`c``", "code(*a*) code(b`c)"],
    ["```ts\nlet *a*;\n\n> b\n```\nc", "code:ts(let *a*;\n\n> b)|c"],
    ["```\na", "code:(a)"],
    ["> a\n> b\n>> c\nd", "quote(a\nb|quote(c))|d"],
    [">:( no\n>_<\n>100", ">:( no\n>_<\n>100"],
    ["- a\n- b\n  - c\n  d\n- e", "list(- a, - b|list(- c)|d, - e)"],
    ["1. a\n3. b\n\n7. c", "list(1 a, 3 b, 7 c)"],
    ["It was in\n1986. A year", "It was in\n1986. A year"],
    ["- a\n1. b", "list(- a)|list(1 b)"],
    ["-a *b", "-a *b"],
    ["# a\n---\n| b |", "# a\n---\n| b |"],
    ["a\n\n\n  b  c", "a\n\n\n  b  c"],
    ["*a\n\nb*", "*a\n\nb*"],
    ["<b>a</b> &amp; <!-- b -->", "<b>a</b> &amp; <!-- b -->"],
    ["![a](https://x.example/)", "!link:https://x.example/(a)"],
  ])("%j is read as our subset of Markdown", (text, parts) => {
    expect(read(text)).toBe(parts);
  });

  it.each([
    ["[a **b**](https://x.example/)", "link:https://x.example/(a strong(b))"],
    [
      "**https://x.example/a_b_c** *b*",
      "strong(link:https://x.example/a_b_c(https://x.example/a_b_c)) em(b)",
    ],
    ["https://x.example/_a_/*b*c", "link:https://x.example/_a_/*b*c(https://x.example/_a_/*b*c)"],
    ["[a](mailto:ann@x.example)", "link:mailto:ann@x.example(a)"],
    ["[Node.js](https://nodejs.org/)", "link:https://nodejs.org/(Node.js)"],
    ["[x.example](https://x.example/a)", "link:https://x.example/a(x.example)"],
    ["`https://x.example`", "code(https://x.example)"],
    [
      "**www.x.example** *joe@x.example*",
      "strong(link:https://www.x.example(www.x.example)) em(link:mailto:joe@x.example(joe@x.example))",
    ],
    [
      "`www.x.example` [www.x.example](https://www.x.example/)",
      "code(www.x.example) link:https://www.x.example/(www.x.example)",
    ],
    [
      "[www.bank.example](https://evil.example/)",
      "[link:https://www.bank.example(www.bank.example)](link:https://evil.example/(https://evil.example/))",
    ],
    ["[a](javascript:alert(1))", "[a](javascript:alert(1))"],
    ["[a](data:text/html,x)", "[a](data:text/html,x)"],
    ["[a](//x.example) [b](/c)", "[a](//x.example) [b](/c)"],
    ["[a](https://ann@x.example/)", "[a](https://ann@x.example/)"],
    ["[](https://x.example/)", "[](link:https://x.example/(https://x.example/))"],
    [
      "[bank.example.com](https://evil.example/)",
      "[bank.example.com](link:https://evil.example/(https://evil.example/))",
    ],
    [
      "[Ann](https://x.example/)[a]: https://x.example/",
      "link:https://x.example/(Ann)[a]: link:https://x.example/(https://x.example/)",
    ],
  ])("%j links only to the address that it shows", (text, parts) => {
    expect(read(text)).toBe(parts);
  });

  it("mentions names after an @, but not in code, addresses and links", () => {
    const names = ["ann", "ben_", "cy.d"];
    expect(read("@ann, @BEN_: @cy.d. (@ann) **@ann** @annさん", names)).toBe(
      "mention(ann), mention(ben_): mention(cy.d). (mention(ann)) strong(mention(ann)) mention(ann)さん",
    );
    const none = "`@ann` a@ann.example @annä @ann@x @anna https://x.example/@ann @nobody";
    expect(mentionsIn(parseText(none, (name) => names.includes(name)))).toEqual([]);
    expect(mentionsIn(parseText("> @ann\n- @cy.d\n\n@ann", (name) => names.includes(name)))).toEqual([
      "ann",
      "cy.d",
    ]);
    expect(namesIn("@Ann. `@ben_` @cy.d @a@b")).toEqual(["ann.", "ann", "cy.d"]);
  });

  const sign = fc.constantFrom(...Array.from("*_~`>[]()<!-+•1.\\:@#&\"'\n\n \tab字א🙂"));
  const piece = fc.constantFrom(
    "**",
    "~~",
    "```",
    "\n```\n",
    "```js\n",
    "](",
    "](https://x.example/",
    "https://x.example/a",
    "\n> ",
    "\n- ",
    "\n1. ",
    "\n  ",
    "[a](",
    ' "t")',
    "@ann",
    "javascript:",
    "data:text/html,",
    "\n\n",
    "<a href=",
    "&lt;",
  );
  const texts = fc
    .array(fc.oneof({ arbitrary: sign, weight: 3 }, piece, fc.string()), { maxLength: 60 })
    .map((parts) => parts.join(""));

  it("loses no letter, whatever the text", () => {
    const letters = (text: string) =>
      Array.from(text.matchAll(/[\p{L}\p{Emoji_Presentation}]/gu), String).join("");
    fc.assert(
      fc.property(texts, (text) => {
        expect(letters(allOf(parseText(text, (name) => name === "ann")))).toBe(letters(text));
      }),
      { numRuns: 3_000 },
    );
  });

  it("without Markdown stays what was typed", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...Array.from("ab .,!?\n 字א🙂'\"&<=;/")) }), (text) => {
        expect(read(text)).toBe(text);
      }),
    );
  });

  it("links only to web and mail addresses", () => {
    const hrefs = (parts: readonly (Block | Inline)[]): string[] =>
      parts.flatMap((part) => {
        if (part.kind === "list") return part.items.flatMap(({ inside }) => hrefs(inside));
        const inside = "inside" in part ? hrefs(part.inside) : [];
        return part.kind === "link" ? [part.href, ...inside] : inside;
      });
    fc.assert(
      fc.property(texts, (text) => {
        for (const href of hrefs(parseText(text)))
          expect(["http:", "https:", "mailto:"]).toContain(new URL(href).protocol);
      }),
      { numRuns: 2_000 },
    );
  });

  it("is also a plain text, without marks", () => {
    const plain = (text: string) => plainOf(parseText(text));
    for (const [text, expected] of [
      ["freeze at **noon**, ~~not~~ _three_", "freeze at noon, not three"],
      ["`**x**` and \\*this\\*", "**x** and *this*"],
      ["[the plan](https://a.example/plan) @room", "the plan @room"],
      ["> said\n> twice\nyes", "said\ntwice\nyes"],
      ["```ts\nconst a = 1;\n```", "const a = 1;"],
      ["- one\n- **two**\n\n3. three", "• one\n• two\n3. three"],
      ["2 * 3 * 4, snake_case_name, ** alone", "2 * 3 * 4, snake_case_name, ** alone"],
    ] as const)
      expect(plain(text), text).toBe(expected);
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", " ", "b", "é") }), (text) => {
        expect(plain(text)).toBe(text);
      }),
    );
  });

  it("is nested a few levels deep at most; anything deeper is text", () => {
    const depth = (parts: readonly (Block | Inline)[]): number =>
      Math.max(
        0,
        ...parts.map((part) =>
          part.kind === "list"
            ? 1 + Math.max(...part.items.map(({ inside }) => depth(inside)))
            : "inside" in part
              ? 1 + depth(part.inside)
              : 0,
        ),
      );
    const many = LIMITS.message / 4;
    for (const text of [
      "> ".repeat(many) + "a",
      "- ".repeat(many) + "a",
      Array.from({ length: 60 }, (_, index) => `${" ".repeat(2 * index)}- a`).join("\n"),
      "*_".repeat(many) + "a" + "_*".repeat(many),
      "**~~".repeat(many / 2) + "a" + "~~**".repeat(many / 2),
    ]) {
      const blocks = parseText(text);
      expect(depth(blocks)).toBeLessThan(20);
      expect(allOf(blocks)).toContain("a");
    }
  });
});
