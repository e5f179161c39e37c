# SPDX-License-Identifier: BSD-2-Clause
# The network stack on the host: unit tests, simulator, fuzzers, threads, and
# the stack behind a tap device. Included by ../Makefile.
#
#   make net_check                 what `make check` runs of it
#   make build/net/sim             random schedules; see net/sim.c
#   make build/net/tapd            see net/tapd.c and net/tap.py (needs root)
#   make net_fuzz SECONDS_PER_FUZZER=200
#   make build/net/threads         under ThreadSanitizer
#   make build/net/tapd.fast       no sanitizer, optimised

NET_SCHEDULES ?= 1-40
NET_FILES := arp checksum classify dhcp dhcp_message frame icmp icmp6 inet ip \
    ip6 ip_out loopback ndp ndp_addr neigh net_timer netif netif_addr \
    netstack ping port reass resolv route siphash sock softwork tcp_accept \
    tcp_ack tcp_cc tcp_conn tcp_cookie tcp_data tcp_emit tcp_hash tcp_icmp \
    tcp_in tcp_listen tcp_open tcp_opts tcp_out tcp_rack tcp_recv tcp_reply \
    tcp_sack tcp_seg tcp_send tcp_sockopt tcp_timer tcp_tw udp udp_io
NET_SRC := $(NET_FILES:%=$(KERNEL)/net/%.c) shim/shim.c shim/lock.c net/host.c
NET_OBJ := $(NET_FILES:%=$(B)/net/k/%.o) $(B)/net/h/shim/shim.o \
    $(B)/net/h/shim/lock.o $(B)/net/h/net/host.o
fuzz_net_PARTS := wire invariants
COVERAGE := $(if $(HAS_LIBFUZZER),-fsanitize=fuzzer-no-link)
FUZZ_OBJ := $(patsubst $(B)/net/%,$(B)/net/f/%,$(NET_OBJ)) \
    $(fuzz_net_PARTS:%=$(B)/net/f/h/net/%.o)
NET_TESTS := test_net test_ip test_tcp test_tcp_flow test_rules sim short tapd
NET_FUZZERS := wire dhcp addr
test_net_PARTS := wire
test_ip_PARTS := wire
test_tcp_PARTS := wire script
test_tcp_flow_PARTS := wire script
test_rules_PARTS := wire script
sim_PARTS := link invariants
short_PARTS := link invariants
tapd_PARTS := services

$(B)/net/k/%.o: $(KERNEL)/net/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Wno-unused-parameter -c $< -o $@

$(B)/net/h/%.o: %.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Wno-unused-parameter -c $< -o $@

define net_program
$(B)/net/$(1): $(B)/net/h/net/$(1).o $($(1)_PARTS:%=$(B)/net/h/net/%.o) \
    $(NET_OBJ)
	$$(CC) $$(CFLAGS) $$^ -o $$@ -lpthread
endef
$(foreach p,$(NET_TESTS),$(eval $(call net_program,$(p))))

# Objects for fuzzers count what was reached.
$(B)/net/f/k/%.o: $(KERNEL)/net/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(COVERAGE) -Wno-unused-parameter -c $< -o $@

$(B)/net/f/h/%.o: %.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(COVERAGE) -Wno-unused-parameter -c $< -o $@

$(B)/net/fuzz_%: net/fuzz_net.c $(FUZZ_OBJ)
	$(CC) $(CFLAGS) -Wno-unused-parameter $(FUZZ_FLAGS) \
	    -DFUZZ_TARGET=FUZZ_$(shell echo $* | tr a-z A-Z) $^ -o $@ -lpthread

$(B)/net/threads: net/threads.c $(NET_SRC) $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(BASE) -Wno-unused-parameter -O1 -fsanitize=thread net/threads.c \
	    $(NET_SRC) -o $@ -lpthread

$(B)/net/%.fast: net/%.c net/services.c net/link.c net/invariants.c \
    $(NET_SRC) $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(BASE) -Wno-unused-parameter -O2 -fno-strict-aliasing $< \
	    $($*_PARTS:%=net/%.c) $(NET_SRC) -o $@ -lpthread

net_all: $(NET_TESTS:%=$(B)/net/%) $(B)/net/threads \
    $(NET_FUZZERS:%=$(B)/net/fuzz_%)

net_check: net_all
	$(B)/net/test_net
	$(B)/net/test_ip
	$(B)/net/test_tcp
	$(B)/net/test_tcp_flow
	$(B)/net/test_rules
	$(B)/net/short
	$(B)/net/sim --seeds $(NET_SCHEDULES)
	$(B)/net/threads 3
	@$(MAKE) --no-print-directory net_fuzz

net_fuzz: $(NET_FUZZERS:%=$(B)/net/fuzz_%)
	@for f in $(NET_FUZZERS); do \
	    mkdir -p $(B)/net/corpus_$$f; \
	    $(B)/net/fuzz_$$f $(if $(HAS_LIBFUZZER),\
	        -max_total_time=$(SECONDS_PER_FUZZER) -max_len=1500 -timeout=20 \
	        -verbosity=0 -print_final_stats=0 -artifact_prefix=$(B)/net/ \
	        $(B)/net/corpus_$$f) >$(B)/net/fuzz_$$f.log 2>&1 \
	        || { cat $(B)/net/fuzz_$$f.log; exit 1; }; \
	    echo "fuzz_$$f: ok"; \
	done

check: net_check

.PHONY: net_all net_check net_fuzz
