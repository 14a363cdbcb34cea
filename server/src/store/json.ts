import { isUtf8 } from "node:buffer";

/** JSON, as a text or as the bytes that Redis has, which are passed on without being read. */
export type Json = string | Buffer;

const COMMA = Buffer.from(",");

/** An object, which has fields, as JSON, with one more that is JSON already. */
export function withField(object: object, name: string, json: Json): Json {
  return listJson(`${JSON.stringify(object).slice(0, -1)},"${name}":`, [json], "}");
}

/**
 * JSON with a list of what is JSON already, which `begin` and `end` open and close: a text if all of it is. Bytes that are
 * no UTF-8, as another program may have written, would end a client's connection: they are replaced.
 */
export function listJson(begin: string, list: readonly Json[], end: string): Json {
  if (list.every((one) => typeof one === "string")) return `${begin}${list.join(",")}${end}`;
  const parts: Buffer[] = [Buffer.from(begin)];
  for (const one of list) parts.push(toBytes(one), COMMA);
  parts.pop();
  const bytes = Buffer.concat([...parts, Buffer.from(end)]);
  return isUtf8(bytes) ? bytes : bytes.toString();
}

export function bytesOf(rows: readonly Json[]): number {
  return rows.reduce((total, row) => total + Buffer.byteLength(row), 0);
}

export function toBytes(text: Json): Buffer {
  return typeof text === "string" ? Buffer.from(text) : text;
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
