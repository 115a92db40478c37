/*
 * What the programs of the C libraries do, whichever the library is. Before it is included: PREFIX of the client
 * identifiers, OFFLINE_QOS.
 *
 *   PROGRAM PORT VERSION qos            publishes to itself at QoS 0, 1, 2; prints what comes
 *   PROGRAM PORT VERSION retained       a retained message, and what a new subscription gets
 *   PROGRAM PORT VERSION will           connects with a will, says so, and is gone without a word
 *   PROGRAM PORT VERSION leave|return   a session that lasts: subscribes and goes; comes and prints 20 messages
 *   PROGRAM PORT VERSION offline COUNT  publishes at OFFLINE_QOS before standard input says go, and waits for every
 *                                       answer; comes back by itself
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int connected, lost, sent, failed, arrived;
static int version;

static void dial(const char *port, const char *id, int clean, int with_will);
static void subscribe(const char *filter);
static void publish(const char *topic, const char *payload, int qos, int retain);
static void leave(void);

static void until(volatile int *value, int least, const char *what) {
	for (int i = 0; *value < least; i++) {
		if (i > 3000 || failed > 0) {
			fprintf(stderr, "%s: %d of %d, failed %d\n", what, *value, least, failed);
			exit(1);
		}
		usleep(10000);
	}
}

int main(int count, char **words) {
	if (count < 4) return 2;
	const char *port = words[1], *what = words[3];
	version = atoi(words[2]);
	if (strcmp(what, "qos") == 0) {
		dial(port, PREFIX "qos", 1, 0);
		subscribe("c/qos/#");
		publish("c/qos/0", "hello", 0, 0);
		publish("c/qos/1", "hello", 1, 0);
		publish("c/qos/2", "hello", 2, 0);
		until(&sent, 3, "sent");
		until(&arrived, 3, "arrived");
	} else if (strcmp(what, "retained") == 0) {
		dial(port, PREFIX "retained", 1, 0);
		publish("c/kept", "kept", 1, 1);
		until(&sent, 1, "sent");
		subscribe("c/kept");
		until(&arrived, 1, "arrived");
		publish("c/kept", "", 1, 1);
		until(&sent, 2, "sent");
		until(&arrived, 2, "arrived");
	} else if (strcmp(what, "will") == 0) {
		dial(port, PREFIX "will", 1, 1);
		printf("connected\n");
		fflush(stdout);
		_exit(0);
	} else if (strcmp(what, "leave") == 0) {
		dial(port, PREFIX "lasting", 0, 0);
		subscribe("c/away");
	} else if (strcmp(what, "return") == 0) {
		dial(port, PREFIX "lasting", 0, 0);
		until(&arrived, 20, "arrived");
	} else if (strcmp(what, "offline") == 0 && count == 5) {
		char payload[32];
		int total = atoi(words[4]);
		dial(port, PREFIX "offline", 0, 0);
		printf("connected\n");
		fflush(stdout);
		getchar();
		for (int i = 0; i < total; i++) {
			snprintf(payload, sizeof payload, "%d", i);
			publish("c/offline", payload, OFFLINE_QOS, 0);
		}
		printf("buffered\n");
		fflush(stdout);
		until(&sent, total, "sent");
		printf("lost %d sent %d\n", lost > 0, sent);
	} else {
		return 2;
	}
	leave();
	return 0;
}
