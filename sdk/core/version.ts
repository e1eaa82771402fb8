/** Kept equal to package.json by a test. Part of the ETag of what is evaluated remotely: another engine may answer otherwise. */
export const VERSION = "0.1.0";
