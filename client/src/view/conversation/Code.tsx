import { laterValue } from "../later.ts";
import { IconButton } from "../ui/Button.tsx";
import { useCopy } from "../ui/useCopy.ts";
import css from "./Code.module.css";

const useColours = laterValue(() => import("../../text/colours.ts"), "used");

/** A block of code, coloured once its language has loaded, with a button that copies it. */
export function Code({ code, language }: { code: string; language: string }) {
  const colours = useColours(language !== "");
  const copy = useCopy();
  return (
    <div className={css.frame}>
      <pre className={css.block} dir="ltr">
        <code>
          {colours === null
            ? code
            : colours
                .colourCode(code, language)
                .map((piece, index) =>
                  piece.colour === undefined ? (
                    piece.text
                  ) : (
                    <Piece key={index} look={piece.colour} text={piece.text} />
                  ),
                )}
        </code>
      </pre>
      <span className={css.copy}>
        <IconButton icon="copy" label="Copy code" onClick={() => void copy(code)} />
      </span>
    </div>
  );
}

type PieceProps = { text: string; look?: "word" | "value" | "name" | "note" | "more" | "less" };

function Piece({ text, look = "word" }: PieceProps) {
  return <span className={css[look]}>{text}</span>;
}
