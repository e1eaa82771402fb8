export { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
export { OpenFeature } from "@openfeature/web-sdk";
