const UNITS = ["kB", "MB", "GB", "TB"];

/** 900 bytes, 1.2 kB, 35 MB */
export function showSize(bytes: number): string {
  if (bytes < 1_000) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let size = bytes / 1_000;
  let unit = 0;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1_000;
    unit += 1;
  }
  return `${size < 9.95 ? size.toFixed(1).replace(".0", "") : Math.round(size)} ${UNITS[unit]}`;
}

/**
 * A file's name without the characters that change the direction of a text, as the server keeps it: with them a program
 * can look like a picture.
 */
export function plainName(name: string): string {
  return name.replaceAll(/\p{Bidi_Control}/gu, "");
}

/** What kind of file it is, from its name, or else from its type: PDF, DOCX, Video, File. */
export function kindOf({ name, type }: { name: string; type: string }): string {
  const [, ending] = /\.([a-z0-9]{1,5})$/i.exec(name) ?? [];
  if (ending !== undefined) return ending.toUpperCase();
  const [family = ""] = type.split("/");
  return ["image", "audio", "video", "text"].includes(family)
    ? `${family[0]?.toUpperCase()}${family.slice(1)}`
    : "File";
}
