import * as fc from "fast-check";
import { expect, it } from "vitest";
import { colourCode } from "./colours.ts";

const LANGUAGES = "bash cpp css diff go java javascript json python rust sql typescript xml yaml".split(" ");

it("code is coloured by its language's name or short name, and not at all for an unknown one", () => {
  const code = 'const a = "b"; // c';
  expect(colourCode(code, "TS")).toEqual([
    { text: "const", colour: "word" },
    { text: " a = " },
    { text: '"b"', colour: "value" },
    { text: "; " },
    { text: "// c", colour: "note" },
  ]);
  expect(colourCode(code, "klingon")).toEqual([{ text: code }]);
  expect(colourCode(code, "")).toEqual([{ text: code }]);
});

it(
  "coloured code keeps every character, and takes little time, whatever the code",
  { timeout: 60_000 },
  () => {
    const piece = fc.constantFrom(
      ...Array.from("\"'`<>/*#{}()[]$@\\:;=-.\n "),
      ..."a /* */ <a ${ <<E f'{ 0x1 // -- <? --- &a r#".split(" "),
    );
    const code = fc
      .tuple(fc.array(piece, { minLength: 1, maxLength: 6 }), fc.array(piece, { maxLength: 4 }))
      .map(([again, end]) => (again.join("").repeat(4_000).slice(0, 3_990) + end.join("")).slice(0, 4_000));
    fc.assert(
      fc.property(fc.constantFrom(...LANGUAGES), code, (language, text) => {
        const began = performance.now();
        expect(
          colourCode(text, language)
            .map((one) => one.text)
            .join(""),
        ).toBe(text);
        expect(performance.now() - began).toBeLessThan(3_000);
      }),
      { numRuns: 300 },
    );
  },
);
