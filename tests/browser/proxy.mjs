// A proxy in front of the gateway, of the kinds that break streams.

import http from "node:http";
import net from "node:net";

export class Proxy {
  // Answers upgrades with 403.
  blockWebSocket = false;
  // Keeps each answer to itself until it is whole.
  holdAnswers = false;
  sockets = new Set();

  static async start(target) {
    const proxy = new Proxy();
    const { hostname, port } = new URL(target);
    proxy.server = http.createServer((request, response) => proxy.#pass(request, response, hostname, port));
    proxy.server.on("upgrade", (request, socket, head) => proxy.#upgrade(request, socket, head, hostname, port));
    proxy.server.on("connection", (socket) => {
      proxy.sockets.add(socket);
      socket.on("close", () => proxy.sockets.delete(socket));
    });
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.page = `http://127.0.0.1:${proxy.server.address().port}/`;
    return proxy;
  }

  // Every connection breaks.
  cut() {
    for (const socket of this.sockets) socket.destroy();
  }

  stop() {
    this.cut();
    this.server.close();
  }

  #pass(request, response, hostname, port) {
    const onward = http.request({ hostname, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      if (!this.holdAnswers) {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
        return;
      }
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        response.writeHead(answer.statusCode, { ...answer.headers, "transfer-encoding": "identity" });
        response.end(Buffer.concat(parts));
      });
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  }

  #upgrade(request, socket, head, hostname, port) {
    socket.on("error", () => {});
    if (this.blockWebSocket) {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return;
    }
    const onward = net.connect(Number(port), hostname, () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`];
      for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
      onward.write(`${lines.join("\r\n")}\r\n\r\n`);
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    onward.on("error", () => socket.destroy());
    socket.on("close", () => onward.destroy());
  }
}
