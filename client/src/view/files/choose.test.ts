import { expect, test } from "vitest";
import { refusalsOf, whyNot } from "./choose.ts";
import { kindOf, plainName, showSize } from "./words.ts";

const limits = {
  fileBytes: 1_000_000,
  messageFiles: 3,
  types: ["*/*"],
  userBytes: 5_000_000,
  used: 4_500_000,
};
const file = { name: "a.bin", type: "", size: 1_000 };

test("a file is refused for its size, its kind, the number, or the space that is left, in this order", () => {
  expect(whyNot(file, 2, limits)).toBeNull();
  expect(whyNot({ ...file, size: 0 }, 9, limits)).toBe("“a.bin” is empty.");
  expect(whyNot({ ...file, size: 2_500_000 }, 9, limits)).toBe(
    "“a.bin” is too large: it has 2.5 MB, and a file may have 1 MB.",
  );
  expect(whyNot({ ...file, type: "video/mp4" }, 9, { ...limits, types: ["image/*", "text/csv"] })).toBe(
    "“a.bin” cannot be sent here, only images, text/csv.",
  );
  expect(whyNot(file, 3, limits)).toBe("“a.bin” is one too many: a message takes 3 files.");
  expect(whyNot({ ...file, size: 600_000 }, 0, limits)).toBe(
    "There is no space for “a.bin”: you have 500 kB left of 5 MB.",
  );
  expect(whyNot({ ...file, size: 600_000 }, 0, { ...limits, userBytes: 0 })).toBeNull();
});

test("a kind is allowed by itself or by its family; what the browser does not know is left to the server", () => {
  const only = { ...limits, types: ["image/*", "application/pdf"] };
  const allowed = (type: string) => whyNot({ ...file, type }, 0, only) === null;
  expect(["image/png", "application/pdf", ""].map(allowed)).toEqual([true, true, true]);
  expect(["imagery/png", "application/zip", "text/html"].map(allowed)).toEqual([false, false, false]);
});

test("no character of a file's name turns its end round", () => {
  expect(plainName("invoice\u202Efdp.txt")).toBe("invoicefdp.txt");
  expect(plainName("\u2066a\u2069\u200F\u061C.png")).toBe("a.png");
  // Some scripts spell with joiners.
  expect(plainName("می\u200Cخواهم.pdf")).toBe("می\u200Cخواهم.pdf");
});

test("sizes are short, and kinds come from the name first", () => {
  expect([1, 999, 1_000, 1_260, 35_400_000, 999_600, 1e12].map(showSize)).toEqual([
    "1 byte",
    "999 bytes",
    "1 kB",
    "1.3 kB",
    "35 MB",
    "1 MB",
    "1 TB",
  ]);
  expect(kindOf({ name: "a.tar.gz", type: "application/gzip" })).toBe("GZ");
  expect(kindOf({ name: "song", type: "audio/mpeg" })).toBe("Audio");
  expect(kindOf({ name: "README", type: "application/octet-stream" })).toBe("File");
});

test("why files are refused is said once for all of which the same holds", () => {
  const empty = (name: string) => ({ name, why: `“${name}” is empty.` });
  expect(refusalsOf([])).toEqual([]);
  expect(refusalsOf([empty("a"), { name: "b", why: "“b” is too large." }, empty("c")])).toEqual([
    "“a” is empty. The same goes for another file.",
    "“b” is too large.",
  ]);
  expect(refusalsOf(["a", "b", "c"].map(empty))).toEqual(["“a” is empty. The same goes for 2 other files."]);
});
