import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findBareLinks, findLinks } from "./links.ts";

function linksIn(text: string): string[] {
  return findLinks(text).flatMap(({ text: shown, href }) => (href === null ? [] : [shown]));
}

describe("a link", () => {
  it.each([
    ["see https://x.example/a?b=1&c=2.", ["https://x.example/a?b=1&c=2"]],
    ["(https://x.example/a_(b)), and so on", ["https://x.example/a_(b)"]],
    ["really: https://x.example/a!!", ["https://x.example/a"]],
    ["<https://x.example>", ["https://x.example"]],
    [
      `"https://x.example" 'https://y.example' \`https://z.example\``,
      ["https://x.example", "https://y.example", "https://z.example"],
    ],
    [`https://x.example/"onmouseover="alert(1)`, ["https://x.example/"]],
    ["HTTPS://X.EXAMPLE/A", ["HTTPS://X.EXAMPLE/A"]],
    [
      "https://a.example,https://b.example\nhttp://c.example",
      ["https://a.example", "https://b.example", "http://c.example"],
    ],
    [
      "http://localhost:3000/#/room/0 http://[::1]:3000/x",
      ["http://localhost:3000/#/room/0", "http://[::1]:3000/x"],
    ],
    ["https://日本語.jp/ä?q=é、", ["https://日本語.jp/ä?q=é"]],
    ["mailto:ann@x.example", ["mailto:ann@x.example"]],
    ["(see https://x.example/wiki/Blur_(band))", ["https://x.example/wiki/Blur_(band)"]],
    ["[https://x.example/a] {https://x.example/b}", ["https://x.example/a", "https://x.example/b"]],
    ["“https://x.example/a” «https://x.example/b»", ["https://x.example/a", "https://x.example/b"]],
    ["„https://x.example/a“ 「https://x.example/b」", ["https://x.example/a", "https://x.example/b"]],
    ["https://x.example/a。谢谢", ["https://x.example/a"]],
    ["https://x.example/a、https://x.example/b؟", ["https://x.example/a", "https://x.example/b"]],
    [
      "https://x.example/a\u200B, \u2066https://x.example/b\u2069\uFEFF",
      ["https://x.example/a", "https://x.example/b"],
    ],
    [
      "https://x.example/a,https://x.example/b;HTTP://x.example/c|mailto:ann@x.example",
      ["https://x.example/a", "https://x.example/b", "HTTP://x.example/c", "mailto:ann@x.example"],
    ],
    [
      "https://x.example/at/https://y.example?to=https://z.example",
      ["https://x.example/at/https://y.example?to=https://z.example"],
    ],
    ["https://x.example/a,b;c|d", ["https://x.example/a,b;c|d"]],
    ["https://x.example/👩‍👩‍👧/نمی‌شود", ["https://x.example/👩‍👩‍👧/نمی‌شود"]],
  ])("is found in %j without the sentence around it", (text, links) => {
    expect(linksIn(text)).toEqual(links);
  });

  it.each([
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "ftp://x.example/",
    "//x.example/",
    "x.example",
    "ann@x.example",
    "xhttps://x.example",
    "https://",
    "https://...a)",
    "https://999.999.999.999/",
    "https://x.example:99999/",
    "https://bank.example@evil.example/",
    "https://ann:secret@x.example/",
  ])("is not made from %s", (text) => {
    expect(linksIn(text)).toEqual([]);
  });

  it.each([
    [
      "(www.x.example/a_(b)), “WWW.X.example” [www.x.example:81/?a=1#b].",
      [
        ["www.x.example/a_(b)", "https://www.x.example/a_(b)"],
        ["WWW.X.example", "https://WWW.X.example"],
        ["www.x.example:81/?a=1#b", "https://www.x.example:81/?a=1#b"],
      ],
    ],
    [
      "<joe@x.example>, (joe.o'hara+a@mail.x.example)。",
      [
        ["joe@x.example", "mailto:joe@x.example"],
        ["joe.o'hara+a@mail.x.example", "mailto:joe.o'hara+a@mail.x.example"],
      ],
    ],
    [
      "see www.münchen.example\u200B joe@x.example",
      [
        ["www.münchen.example", "https://www.münchen.example"],
        ["joe@x.example", "mailto:joe@x.example"],
      ],
    ],
    [
      "https://www.x.example/ https://joe@www.x.example mailto:joe@x.example ftp://www.x.example/ //www.x.example/",
      [],
    ],
    ["www. www.x wwww.x.example x.www.example.de awww.x.example README.md a.b", []],
    ["@joe joe@ joe@x react@18.2.0 @a/b@1.0.0-beta joe@x..example www.joe@x.example", []],
  ])("of %j without a scheme begins with www. or is an address of mail", (text, links) => {
    const found = findBareLinks(text);
    expect(found.map((part) => part.text).join("")).toBe(text);
    expect(found.filter(({ href }) => href !== null).map(({ text: shown, href }) => [shown, href])).toEqual(
      links,
    );
  });

  it("leads where it says, by http, https or mailto, and a text's parts join to the text", () => {
    const sign = fc.constantFrom(
      ...Array.from("https://mailto:x?a=b&(c)[d]{e}@ \"'`<>.,;!#%-_é😀\n\u0000\u202e"),
    );
    const address = fc.constantFrom(
      "https://x.example/",
      "http://x",
      "mailto:a@x.example",
      "javascript:",
      "//x.example",
    );
    const text = fc.array(fc.oneof(sign, address, fc.string())).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, (one) => {
        const parts = findLinks(one);
        expect(parts.map((part) => part.text).join("")).toBe(one);
        for (const { text: shown, href } of parts) {
          if (href === null) continue;
          expect(href).toBe(shown);
          expect(["http:", "https:", "mailto:"]).toContain(new URL(href).protocol);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
