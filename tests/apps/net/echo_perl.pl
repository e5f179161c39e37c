# SPDX-License-Identifier: BSD-2-Clause
# Echo at port 7 with select and sysread, one thread.
use strict;
use warnings;
use IO::Select;
use IO::Socket::IP;

$SIG{TERM} = sub { exit 0 };
$SIG{PIPE} = 'IGNORE';
my $server = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7, Listen => 200, V6Only => 0,
    ReuseAddr => 1) or die "listen: $@";
my ($all, %rest) = (IO::Select->new($server));
while (1) {
    my @full = grep { length $rest{$_->fileno} } $all->handles;
    my ($in, $out) = IO::Select->select(IO::Select->new(grep { !length($rest{$_->fileno} // "") }
        $all->handles), IO::Select->new(@full));
    for my $handle (@{$in // []}) {
        if ($handle == $server) {
            my $client = $server->accept or next;
            $client->blocking(0);
            $rest{$client->fileno} = "";
            $all->add($client);
            next;
        }
        my $got = sysread($handle, my $data, 65536);
        if ($got) {
            $rest{$handle->fileno} = $data;
        } elsif (defined $got || !$!{EAGAIN}) {
            $all->remove($handle);
            delete $rest{$handle->fileno};
            close $handle;
        }
    }
    for my $handle (@{$out // []}) {
        my $number = $handle->fileno // next;
        my $sent = syswrite($handle, $rest{$number}) // 0;
        $rest{$number} = substr($rest{$number}, $sent);
    }
}
