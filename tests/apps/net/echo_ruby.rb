# SPDX-License-Identifier: BSD-2-Clause
# Echo at port 7 over TCP with a thread for each client, and over UDP.
require "socket"

trap("TERM") { exit }
udp = UDPSocket.new(Socket::AF_INET6)
udp.bind("::", 7)
Thread.new do
  loop do
    data, from = udp.recvfrom(65536)
    udp.send(data, 0, from[3], from[1])
  end
end
server = TCPServer.new("::", 7)
server.listen(200)
loop do
  Thread.new(server.accept) do |client|
    while (data = client.readpartial(65536))
      client.write(data)
    end
  rescue EOFError, Errno::ECONNRESET, Errno::EPIPE
    client.close
  end
end
