import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

/** Checks what types cannot: that the view's components and their style sheets agree. */

const view = join(import.meta.dirname, "../client/src/view");
const files = readdirSync(view, { recursive: true, encoding: "utf8" });
const sheets = files.filter((file) => file.endsWith(".module.css"));
const components = files.filter((file) => /(?<!\.test)\.tsx$/.test(file));

function read(file: string): string {
  return readFileSync(join(view, file), "utf8");
}

/** The class names of a style sheet. */
function classesOf(sheet: string): Set<string> {
  const selectors = read(sheet)
    .replaceAll(/\/\*[^]*?\*\//g, "")
    .replaceAll(/\{[^{}]*\}/g, "{}");
  return new Set([...selectors.matchAll(/\.([a-z][\w-]*)/gi)].map(([, name = ""]) => name));
}

test("each style sheet of the view belongs to one component beside it, by a name that no other has", () => {
  const imported = components.flatMap((file) =>
    [...read(file).matchAll(/import css from "([^"]+)"/g)].map(([, path = ""]) => join(dirname(file), path)),
  );
  expect(imported.toSorted()).toEqual(sheets.toSorted());
  const names = sheets.map((file) => file.split("/").at(-1));
  expect(names).toEqual([...new Set(names)]);
});

test.each(sheets)("%s has the class names that its component uses, and no others", (sheet) => {
  const text = read(sheet.replace(".module.css", ".tsx"));
  const used = [...text.matchAll(/\bcss\.(\w+)/g)].map(([, name = ""]) => name);
  // `css[look]`: the values of a property's type. One of them may be the default look, without a class.
  const chosen = [...text.matchAll(/\bcss\[(\w+)\]/g)].flatMap(([, property = ""]) => {
    const choices = new RegExp(`\\b${property}\\?: ((?:"\\w+"(?: \\| )?)+)`).exec(text)?.[1] ?? "";
    return [...choices.matchAll(/"(\w+)"/g)].map(([, name = ""]) => name);
  });
  const own = classesOf(sheet);
  expect(used.filter((name) => !own.has(name))).toEqual([]);
  expect([...own].filter((name) => !used.includes(name) && !chosen.includes(name))).toEqual([]);
});

test("the class names that the page has without a component are a handful", () => {
  const names = [...classesOf("base.css")].toSorted();
  expect(names).toEqual(["hidden", "icon", "splash", "wordmark", "wordmark-pen", "wordmark-voice"]);
});
