import type { Version, Written } from "./drafts.ts";
import { filesIn, toText } from "./state/files.ts";

/** The field in which texts are written. */
export type Field = {
  /** What stands there now. */
  written: () => Written;
  write: (text: string) => void;
  /** Whether to send a text: at once, or when its user has answered. */
  confirm: (text: string) => true | Promise<boolean>;
  /** False: it is refused. `isLast`: nothing waits behind it. */
  send: (what: Written, isLast: boolean) => boolean;
};

/** `added` resolves once its files are in `what`, or some were refused: false. */
type Turn = { what: Written; added?: Promise<boolean> };

/**
 * Sends what stood in a field each time that Enter was pressed, one after the other, however long the files and the
 * question of each take. If one is not sent, those after it are not sent without it: all of it stands in the field again.
 * `waits` hears whether anything waits for files.
 */
export function createSendQueue(waits: (waits: boolean) => void) {
  const turns: Turn[] = [];

  /** Sends at once if nothing is to be waited for. `added`: resolves once the files that come are in the field. */
  function add(field: Field, added?: Promise<boolean>) {
    const turn: Turn = { what: field.written() };
    turns.push(turn);
    if (added !== undefined) {
      waits(true);
      turn.added = added.then((all) => {
        turn.what = { ...turn.what, files: field.written().files };
        return all;
      });
    }
    if (turns.length === 1) void sendAll(field);
  }

  async function sendAll(field: Field) {
    for (let [turn] = turns; turn !== undefined; [turn] = turns) {
      const isSent = (turn.added === undefined || (await turn.added)) && (await sendOne(field, turn));
      if (!isSent) {
        bringBack(field);
        turns.length = 0;
        break;
      }
      turns.shift();
      for (const next of turns) next.what = without(next.what, turn.what);
    }
    waits(false);
  }

  async function sendOne(field: Field, { what: { said, ...what } }: Turn): Promise<boolean> {
    const files = () => stillHere(field, what.files);
    if (said === null && files() === null) return true;
    const sure = field.confirm(said?.text ?? "");
    return (
      (sure === true || (await sure)) && field.send({ ...what, said, files: files() }, turns.length === 1)
    );
  }

  /** Writes in the field again what was to be sent, if another text has taken its place. */
  function bringBack({ written, write }: Field) {
    const present = written().said?.text ?? "";
    const all = turns.reduceRight(
      (rest, { what: { said } }) =>
        said === null || rest.startsWith(said.text) ? rest : `${said.text}\n${rest}`,
      present,
    );
    if (all !== present) write(all);
  }

  return { add };
}

/** Those files that still stand in the field, as they are described by now. */
function stillHere({ written }: Field, those: Version | null): Version | null {
  const { files: now } = written();
  const keys = new Set(filesIn(those?.text).map(({ key }) => key));
  const list = toText(filesIn(now?.text).filter(({ key }) => keys.has(key)));
  return now === null || list === "" ? null : { ...now, text: list };
}

/** What is still to be sent of what stood in a field later, now that what stood there before is sent. */
function without({ said, answered, files }: Written, sent: Written): Written {
  const isSame = (one: Version | null, other: Version | null) => one?.nonce === other?.nonce;
  const goesOn = said !== null && sent.said !== null && said.text.startsWith(sent.said.text);
  const text = goesOn ? said.text.slice(sent.said?.text.length).trimStart() : (said?.text ?? "");
  return {
    said: said === null || text === "" ? null : { ...said, text },
    answered: isSame(answered, sent.answered) ? null : answered,
    files,
  };
}
