/**
 * FILES_URL, read by one function. `shown` may appear in logs: never the credentials.
 *
 * | address | what |
 * |---|---|
 * | `file:./data/files`, `file:///srv/hubbub` | a folder, which all replicas see |
 * | `s3://KEY:SECRET@host[:port]/bucket[/folder][?region=us-east-1&tls=on]` | a bucket of any store that speaks S3 |
 *
 * Key and secret are URL-encoded.
 */
export type FilesAddress = { shown: string } & (
  | { kind: "folder"; path: string }
  | {
      kind: "s3";
      /** The bucket's URL, and the folder in it; without a slash at the end. */
      url: string;
      key: string;
      secret: string;
      region: string;
    }
);

/** Throws one Error with a line for people, which names no credentials. */
export function parseFilesUrl(text: string): FilesAddress {
  if (text.startsWith("file:")) {
    const path = decoded(text.slice("file:".length).replace(/^\/\/(?=\/)/, ""));
    if (path === "" || path.startsWith("//")) throw new Error("FILES_URL names no folder: file:./data/files");
    if (path.startsWith("~"))
      throw new Error("FILES_URL has a ~, which only a shell knows: write file:///home/me/files");
    return { kind: "folder", path, shown: `file:${path}` };
  }
  if (!text.startsWith("s3://") || !URL.canParse(text))
    throw new Error("FILES_URL is a folder, file:./data/files, or a bucket, s3://KEY:SECRET@host/bucket");
  const { username, password, host, pathname, searchParams } = new URL(text);
  const [bucket = "", ...folders] = pathname.split("/").filter(Boolean);
  const { region = "us-east-1", tls = "on", ...unknown } = Object.fromEntries(searchParams);
  const [stranger] = Object.keys(unknown);
  if (stranger !== undefined) throw new Error(`FILES_URL knows region and tls, not ${stranger}`);
  if (tls !== "on" && tls !== "off") throw new Error("FILES_URL: tls is on or off");
  if (!host || !bucket) throw new Error("FILES_URL names no bucket: s3://KEY:SECRET@host/bucket");
  if (!username || !password)
    throw new Error("FILES_URL has no key or no secret: s3://KEY:SECRET@host/bucket");
  const place = [host, bucket, ...folders].join("/");
  return {
    kind: "s3",
    url: `${tls === "on" ? "https" : "http"}://${place}`,
    key: decoded(username),
    secret: decoded(password),
    region,
    shown: `s3://${place}`,
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error("FILES_URL has a % that escapes nothing: write it as %25");
  }
}
