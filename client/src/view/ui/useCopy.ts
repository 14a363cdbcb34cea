import { useNotice } from "./Notices.tsx";

/** Copies a text to the clipboard, and says so. */
export function useCopy(): (text: string) => Promise<void> {
  const tell = useNotice();
  return async (text) => {
    try {
      // Browsers have no clipboard over plain http: then this throws.
      await navigator.clipboard.writeText(text);
    } catch {
      tell("This browser does not let the page copy.");
      return;
    }
    tell("Copied.");
  };
}
