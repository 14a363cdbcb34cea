import { useNotice } from "./Notices.tsx";

/** Puts a text where somebody may paste it from, and says so. */
export function useCopy(): (text: string) => Promise<void> {
  const tell = useNotice();
  return async (text) => {
    try {
      // Over plain http browsers have no clipboard, and this throws.
      await navigator.clipboard.writeText(text);
    } catch {
      tell("This browser does not let the page copy.");
      return;
    }
    tell("Copied.");
  };
}
