// SPDX-License-Identifier: BSD-2-Clause

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.concurrent.Executors;

/** The files of a folder by GET, digests by POST, at port 8080. */
public class HttpJava {
    static Path folder;

    static void answer(HttpExchange e, int status, byte[] data) throws IOException {
        e.sendResponseHeaders(status, data.length == 0 ? -1 : data.length);
        if (data.length > 0) {
            e.getResponseBody().write(data);
        }
        e.close();
    }

    static void handle(HttpExchange e) throws IOException {
        if (e.getRequestMethod().equals("POST")) {
            byte[] sent = e.getRequestBody().readAllBytes();
            try {
                byte[] digest = MessageDigest.getInstance("SHA-256").digest(sent);
                answer(e, 200, (HexFormat.of().formatHex(digest) + "\n").getBytes());
            } catch (NoSuchAlgorithmException wrong) {
                answer(e, 500, wrong.toString().getBytes());
            }
            return;
        }
        Path file = folder.resolve(e.getRequestURI().getPath().substring(1));
        if (Files.isRegularFile(file)) {
            answer(e, 200, Files.readAllBytes(file));
        } else {
            answer(e, 404, "no\n".getBytes());
        }
    }

    public static void main(String[] args) throws IOException {
        folder = Path.of(args[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress("::", 8080), 200);
        server.createContext("/", HttpJava::handle);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }
}
