/* SPDX-License-Identifier: BSD-2-Clause */
/* The network's settings from the boot parameters; see kernel_config.h. */
#include "net/kernel_config.h"

#include "arch/arch.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "net/dhcp.h"
#include "net/ndp.h"
#include "net/neigh.h"
#include "net/resolv.h"
#include "net/route.h"
#include "param.h"

#define DHCP_WAIT_NS (10 * NSEC_PER_SEC)
#define ROUTER_WAIT_NS (5 * NSEC_PER_SEC)
#define ROUTER_LOOK_NS (NSEC_PER_SEC / 50)

static struct waitq dhcp_wait;

static void complain(const char *key, const char *value)
{
    control_send("message network: the parameter %s=%s cannot be used", key,
                 value);
}

/* ADDRESS/BITS: an address of ours and the network it is in. */
static int add_address(struct netif *card, const char *text)
{
    const char *slash = strchr(text, '/'), *end;
    char address[NET_ADDR_TEXT];
    struct net_addr a;
    uint64_t bits;

    if (!slash || (size_t)(slash - text) >= sizeof(address))
        return -EINVAL;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = 0;
    bits = parse_number(slash + 1, &end, 10);
    if (*end || end == slash + 1 || addr_from_text(address, &a) ||
        bits > (addr_is_v4(&a) ? 32 : 128))
        return -EINVAL;
    return route_add_addr(card, &a,
                          (uint32_t)bits + (addr_is_v4(&a) ? 96 : 0));
}

static int add_gateway(struct netif *card, const char *text)
{
    struct net_addr gateway, any = {.q = {0}};

    if (addr_from_text(text, &gateway))
        return -EINVAL;
    if (addr_is_v4(&gateway))
        any = addr_from_v4(0);
    return route_add(card, &any, addr_is_v4(&gateway) ? 96 : 0, &gateway);
}

static bool has_v4(struct netif *card)
{
    struct net_addr a = netif_first_addr(card, true);

    return !addr_is_any(&a);
}

static void dhcp_changed(struct dhcp *d)
{
    wait_wake(&dhcp_wait, 1000);
}

/* The client goes on by itself when the server is late. */
static int start_dhcp(struct netif *card)
{
    struct dhcp *d;
    int err;

    waitq_init(&dhcp_wait);
    err = dhcp_start(card, boot_params.hostname, dhcp_changed, NULL, &d);
    if (err)
        return err;
    err = wait_event(&dhcp_wait, has_v4(card), 0,
                     clock_monotonic() + DHCP_WAIT_NS);
    if (err)
        control_send("message network: no DHCP server has answered in %d "
                     "seconds; the program starts without an address",
                     (int)(DHCP_WAIT_NS / NSEC_PER_SEC));
    return 0;
}

/* Are all addresses the routers' to give? */
static bool has_only_routers(void)
{
    bool found = false;

    for (unsigned i = 0; i < boot_params.net.ip.nr; i++) {
        if (strcmp(boot_params.net.ip.values[i], "auto"))
            return false;
        found = true;
    }
    return found;
}

/* An announcement takes up to half a second, the check that the address is
 * ours alone another one (RFC 4861, 6.2.6; RFC 4862, 5.4). */
static void wait_for_router(struct netif *card)
{
    nsec_t end = clock_monotonic() + ROUTER_WAIT_NS;

    while (!netif_has_global6(card)) {
        nsec_t now = clock_monotonic();
        if (now >= end) {
            control_send("message network: no IPv6 router has announced a "
                         "prefix in %d seconds; the program starts without "
                         "an address",
                         (int)(ROUTER_WAIT_NS / NSEC_PER_SEC));
            return;
        }
        (void)sleep_until(now + ROUTER_LOOK_NS, false);
    }
}

static int configure_one(struct netif *card, const char *value)
{
    if (!strcmp(value, "dhcp"))
        return start_dhcp(card);
    if (!strcmp(value, "auto"))
        return ndp_start(card);
    return add_address(card, value);
}

static int add_name_server(struct netif *card, const char *text)
{
    struct net_addr a;

    if (addr_from_text(text, &a))
        return -EINVAL;
    dns_add_server(card->net, &a);
    return 0;
}

static void configure_all(struct netif *card, const struct param_list *l,
                          const char *key,
                          int (*one)(struct netif *, const char *))
{
    for (unsigned i = 0; i < l->nr; i++) {
        if (one(card, l->values[i]))
            complain(key, l->values[i]);
    }
}

static void configure_outside(struct netif *card)
{
    const char *domain = boot_params.net.domain;

    /* Name servers first: those of DHCP come after the user's. */
    configure_all(card, &boot_params.net.dns, "dns", add_name_server);
    if (domain)
        dns_set_domain(card->net, (const uint8_t *)domain, strlen(domain));
    configure_all(card, &boot_params.net.ip, "ip", configure_one);
    configure_all(card, &boot_params.net.gateway, "gateway", add_gateway);
    if (has_only_routers())
        wait_for_router(card);
}

/* MAC ADDRESS/BITS: the address, NULL if it is not about this card. */
static const char *lan_address(struct netif *card, const char *text)
{
    for (unsigned i = 0; i < ETH_ADDR; i++) {
        const char *end;
        uint64_t byte = parse_number(text, &end, 16);
        if (end != text + 2 || *end != (i == ETH_ADDR - 1 ? ' ' : ':') ||
            byte != card->mac[i])
            return NULL;
        text = end + 1;
    }
    return text;
}

/* Others may be waiting for a machine that was restarted: it says that it is
 * there. */
static void configure_lan(struct netif *card, const char *address,
                          const char *value)
{
    struct net_addr own;

    if (add_address(card, address)) {
        complain("lan", value);
        return;
    }
    own = netif_first_addr(card, true);
    if (!addr_is_any(&own))
        arp_announce(card, &own);
}

void net_configure(struct netif *card)
{
    for (unsigned i = 0; i < boot_params.net.lan.nr; i++) {
        const char *value = boot_params.net.lan.values[i];
        const char *address = lan_address(card, value);

        if (!address)
            continue;
        configure_lan(card, address, value);
        return;
    }
    configure_outside(card);
}
