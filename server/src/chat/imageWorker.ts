import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import sharp from "sharp";

/**
 * The process that decodes images: one that a picture kills, or that it keeps busy for too long, takes nothing with it.
 * Runs alone, one picture at a time: see images.ts.
 */

/** What to make of the image at `from`; each path is that of a new file. `image` is left out where the bytes stay. */
export type ImageOrder = {
  from: string;
  image?: string;
  thumbnail: string;
  /** Fits into a square of so many pixels, or with `cover` fills it. */
  side: number;
  cover: boolean;
  /** At most: pixels of all frames together, and frames. */
  pixels: number;
  frames: number;
};
/** Sizes in pixels and bytes. */
export type ImageDone = {
  type: string;
  width: number;
  height: number;
  animated: boolean;
  size: number;
};
/** `disk`: not the picture's fault. */
export type ImageReply = { done: ImageDone } | { fault: "broken" | "pixels" | "frames" | "disk" };

const TYPES: Record<string, string> = {
  jpeg: "image/jpeg",
  png: "image/png",
  webp: "image/webp",
  gif: "image/gif",
  heif: "image/webp",
};
const QUALITY = 85;
/** How libvips begins the line of a call that the system refused: reading or writing a file. */
const SYSTEM = /^system error: /m;

async function make(order: ImageOrder): Promise<ImageReply> {
  const { from, image, thumbnail, side, cover, pixels, frames } = order;
  if (await hasMoreFrames(from, frames)) return { fault: "frames" };
  // Broken bytes are refused, not guessed at.
  const options = { limitInputPixels: pixels, failOn: "error", sequentialRead: true } as const;
  const about = await sharp(from, { ...options, limitInputPixels: false }).metadata();
  const { format, width: across, height: down, pages = 1, orientation = 1 } = about;
  const type = TYPES[format ?? ""];
  if (type === undefined || !across || !down) return { fault: "broken" };
  if (across * down * pages > pixels) return { fault: "pixels" };
  // Each costs time, however small it is.
  if (pages > frames) return { fault: "frames" };
  const animated = pages > 1 && format !== "heif";
  const isTurned = orientation >= 5;
  const [width, height] = isTurned ? [down, across] : [across, down];
  await sharp(from, options)
    .rotate()
    .resize({ width: side, height: side, fit: cover ? "cover" : "inside", withoutEnlargement: !cover })
    .webp({ quality: QUALITY })
    .toFile(thumbnail);
  if (image === undefined) {
    const kept = format === "heif" ? "image/avif" : type;
    return { done: { type: kept, width, height, animated, size: (await stat(from)).size } };
  }
  const whole = sharp(from, { ...options, animated }).rotate();
  const written =
    type === "image/jpeg"
      ? whole.jpeg({ quality: QUALITY })
      : type === "image/png"
        ? whole.png()
        : type === "image/gif"
          ? whole.gif()
          : whole.webp({ quality: QUALITY });
  const { size } = await written.toFile(image);
  return { done: { type, width, height, animated, size } };
}

/** How a frame of a WebP begins. */
const FRAME = "ANMF";

/**
 * Whether a WebP names more frames than so many. libvips tells how many there are only after it has searched for each one
 * from the beginning, which takes minutes for some 100,000.
 */
async function hasMoreFrames(path: string, most: number): Promise<boolean> {
  let count = 0;
  let before: Buffer | undefined;
  for await (const part of createReadStream(path, { highWaterMark: 1_048_576 }) as AsyncIterable<Buffer>) {
    if (!before && part.toString("latin1", 8, 12) !== "WEBP") return false;
    // The last part may end within a name.
    const bytes: Buffer = before ? Buffer.concat([before.subarray(-(FRAME.length - 1)), part]) : part;
    for (let at = bytes.indexOf(FRAME); at >= 0; at = bytes.indexOf(FRAME, at + FRAME.length)) count += 1;
    if (count > most) return true;
    before = bytes;
  }
  return false;
}

sharp.concurrency(1);
sharp.cache(false);
process.on("message", (order: ImageOrder) => {
  void make(order)
    // libvips' own words may quote what is in the file: they are only looked at. Node's errors have a code.
    .catch((error: Error): ImageReply => {
      return { fault: "code" in error || SYSTEM.test(error.message) ? "disk" : "broken" };
    })
    .then((reply) => process.send?.(reply));
});
// Whoever stops all processes of a service or a terminal means the replica: it ends this one when it needs it no more.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
process.send?.("ready");
// The replica is gone.
process.on("disconnect", () => process.exit());
