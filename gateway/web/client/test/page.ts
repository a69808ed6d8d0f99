// A page that uses the client: what most tests of threads begin with.

import type { ClarionError, Client, ThreadOptions } from "../src/index.js";
import { World, type ScriptedSocket } from "./world.js";

/** It follows thread "t" with a handler for everything. */
export class Page {
  readonly world = new World();
  readonly client: Client;
  readonly offsets: number[] = [];
  readonly errors: ClarionError[] = [];
  socket!: ScriptedSocket;

  constructor() {
    this.client = this.world.client({ transports: ["websocket"] });
    this.client.on("error", (error) => this.errors.push(error));
  }

  static async follow(options: ThreadOptions = {}): Promise<Page> {
    const page = new Page();
    page.thread(options).on("event", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    return page;
  }

  thread(options: ThreadOptions = {}) {
    return this.client.thread("t", options);
  }

  /** What is acknowledged by now. */
  async acked(): Promise<number | undefined> {
    await this.world.advance(200);
    return this.socket.last("ack")?.offset;
  }

  async reconnect(): Promise<ScriptedSocket> {
    this.socket.drop();
    await this.world.advance(0);
    return (this.socket = await this.world.connected());
  }
}
