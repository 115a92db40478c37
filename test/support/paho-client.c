/*
 * libpaho's asynchronous client, which does by itself what applications leave to it: it comes back when it is cut off,
 * and keeps what is published meanwhile.
 *
 *   paho-client PORT VERSION qos            publishes to itself at QoS 0, 1, 2; prints what comes
 *   paho-client PORT VERSION retained       a retained message, and what a new subscription gets
 *   paho-client PORT VERSION will           connects with a will, says so, and is gone without a word
 *   paho-client PORT VERSION leave|return   a session that lasts: subscribes and goes; comes and prints 20 messages
 *   paho-client PORT VERSION offline COUNT  publishes at QoS 1 before standard input says go, and waits for every answer
 */
#include <MQTTAsync.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MQTTAsync client;
static volatile int connected, lost, subscribed, sent, failed, arrived, wanted;
static int version, quiet;

static int on_message(void *context, char *topic, int length, MQTTAsync_message *message) {
	(void)context;
	(void)length;
	if (!quiet)
		printf("%s %d %d %.*s\n", topic, message->qos, message->retained, message->payloadlen, (char *)message->payload);
	fflush(stdout);
	MQTTAsync_freeMessage(&message);
	MQTTAsync_free(topic);
	arrived++;
	return 1;
}

static void on_lost(void *context, char *cause) { (void)context; (void)cause; connected = 0; lost++; }
static void on_connected(void *context, char *cause) { (void)context; (void)cause; connected = 1; }
static void done4(void *context, MQTTAsync_successData *data) { (void)data; ++*(volatile int *)context; }
static void done5(void *context, MQTTAsync_successData5 *data) { (void)data; ++*(volatile int *)context; }
static void failed4(void *context, MQTTAsync_failureData *data) { (void)context; (void)data; failed++; }
static void failed5(void *context, MQTTAsync_failureData5 *data) { (void)context; (void)data; failed++; }

static void until(volatile int *value, int least, const char *what) {
	for (int i = 0; *value < least; i++) {
		if (i > 3000 || failed > 0) {
			fprintf(stderr, "%s: %d of %d, failed %d\n", what, *value, least, failed);
			exit(1);
		}
		usleep(10000);
	}
}

static MQTTAsync_responseOptions answered(volatile int *count) {
	MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
	if (version == 5) { options.onSuccess5 = done5; options.onFailure5 = failed5; }
	else { options.onSuccess = done4; options.onFailure = failed4; }
	options.context = (void *)count;
	return options;
}

static void dial(const char *port, const char *id, int clean, int with_will) {
	char url[64];
	snprintf(url, sizeof url, "tcp://127.0.0.1:%s", port);
	MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
	create.MQTTVersion = version;
	create.sendWhileDisconnected = 1;
	create.allowDisconnectedSendAtAnyTime = 1;
	create.maxBufferedMessages = 10000;
	MQTTAsync_createWithOptions(&client, url, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
	MQTTAsync_setCallbacks(client, NULL, on_lost, on_message, NULL);
	MQTTAsync_setConnected(client, NULL, on_connected);
	MQTTAsync_connectOptions four = MQTTAsync_connectOptions_initializer;
	MQTTAsync_connectOptions five = MQTTAsync_connectOptions_initializer5;
	MQTTAsync_connectOptions options = version == 5 ? five : four;
	MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
	will.topicName = "c/will";
	will.message = "gone";
	will.qos = 1;
	if (with_will) options.will = &will;
	options.keepAliveInterval = 20;
	options.automaticReconnect = 1;
	options.minRetryInterval = 1;
	options.maxRetryInterval = 1;
	MQTTProperties properties = MQTTProperties_initializer;
	if (version == 5) {
		options.cleanstart = clean;
		MQTTProperty expiry = { MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, { .integer4 = clean ? 0 : 600 } };
		MQTTProperties_add(&properties, &expiry);
		options.connectProperties = &properties;
	} else {
		options.MQTTVersion = version;
		options.cleansession = clean;
	}
	MQTTAsync_connect(client, &options);
	until(&connected, 1, "connected");
}

static void subscribe(const char *filter) {
	MQTTAsync_responseOptions options = answered(&subscribed);
	int before = subscribed;
	MQTTAsync_subscribe(client, filter, 2, &options);
	until(&subscribed, before + 1, "subscribed");
}

static void publish(const char *topic, const char *payload, int qos, int retained) {
	MQTTAsync_responseOptions options = answered(&sent);
	MQTTAsync_message message = MQTTAsync_message_initializer;
	message.payload = (void *)payload;
	message.payloadlen = (int)strlen(payload);
	message.qos = qos;
	message.retained = retained;
	wanted++;
	int code = MQTTAsync_sendMessage(client, topic, &message, &options);
	if (code != MQTTASYNC_SUCCESS) { fprintf(stderr, "publish: %d\n", code); exit(1); }
}

static void leave(void) {
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;
	options.timeout = 1000;
	MQTTAsync_disconnect(client, &options);
	for (int i = 0; i < 300 && MQTTAsync_isConnected(client); i++) usleep(10000);
}

int main(int count, char **words) {
	if (count < 4) return 2;
	const char *port = words[1], *what = words[3];
	version = atoi(words[2]);
	if (strcmp(what, "qos") == 0) {
		dial(port, "c-qos", 1, 0);
		subscribe("c/qos/#");
		publish("c/qos/0", "hello", 0, 0);
		publish("c/qos/1", "hello", 1, 0);
		publish("c/qos/2", "hello", 2, 0);
		until(&sent, 3, "sent");
		until(&arrived, 3, "arrived");
	} else if (strcmp(what, "retained") == 0) {
		dial(port, "c-retained", 1, 0);
		publish("c/kept", "kept", 1, 1);
		until(&sent, 1, "sent");
		subscribe("c/kept");
		until(&arrived, 1, "arrived");
		publish("c/kept", "", 1, 1);
		until(&sent, 2, "sent");
		until(&arrived, 2, "arrived");
	} else if (strcmp(what, "will") == 0) {
		dial(port, "c-will", 1, 1);
		printf("connected\n");
		fflush(stdout);
		_exit(0);
	} else if (strcmp(what, "leave") == 0) {
		dial(port, "c-lasting", 0, 0);
		subscribe("c/away");
	} else if (strcmp(what, "return") == 0) {
		dial(port, "c-lasting", 0, 0);
		until(&arrived, 20, "arrived");
	} else if (strcmp(what, "offline") == 0 && count == 5) {
		char payload[32];
		int total = atoi(words[4]);
		dial(port, "c-offline", 0, 0);
		printf("connected\n");
		fflush(stdout);
		getchar();
		for (int i = 0; i < total; i++) {
			snprintf(payload, sizeof payload, "%d", i);
			publish("c/offline", payload, 1, 0);
		}
		printf("buffered\n");
		fflush(stdout);
		until(&sent, total, "sent");
		printf("lost %d sent %d\n", lost > 0, sent);
	} else {
		return 2;
	}
	leave();
	MQTTAsync_destroy(&client);
	return 0;
}
