import { useImperativeHandle, useRef, type Ref } from "react";
import { isMac } from "../keys.ts";
import { IconButton } from "../ui/Button.tsx";

export type AddFilesFace = { pick: () => void };

/** Lets the user pick files. A phone offers its camera and its pictures. */
export function AddFiles({ face, onFiles }: { face: Ref<AddFilesFace>; onFiles: (files: File[]) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const pick = () => input.current?.click();
  useImperativeHandle(face, () => ({ pick }));
  return (
    <>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        onChange={({ target }) => {
          onFiles([...(target.files ?? [])]);
          // The same file can be picked again.
          target.value = "";
        }}
      />
      <IconButton
        icon="clip"
        label="Add files"
        title={isMac ? "Add files (⌘U)" : "Add files (Ctrl+U)"}
        onClick={pick}
      />
    </>
  );
}
