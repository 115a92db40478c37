import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConfirmListener;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Rounds with RabbitMQ's Java client: the port, then the rounds' names. Each prints its name when it went well. */
public final class Rounds {
  private static final long SECONDS = 30;
  private final Connection connection;
  private final Channel channel;

  private Rounds(Connection connection) throws Exception {
    this.connection = connection;
    this.channel = connection.createChannel();
  }

  public static void main(String[] words) throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setHost("127.0.0.1");
    factory.setPort(Integer.parseInt(words[0]));
    factory.setAutomaticRecoveryEnabled(true);
    factory.setNetworkRecoveryInterval(200);
    try (Connection connection = factory.newConnection()) {
      for (String name : Arrays.asList(words).subList(1, words.length)) {
        Rounds rounds = new Rounds(connection);
        Rounds.class.getDeclaredMethod(name).invoke(rounds);
        rounds.channel.close();
        System.out.println(name);
      }
    }
  }

  /** A durable queue, persistent texts, one at a time. */
  void workQueue() throws Exception {
    String queue = "java.work";
    channel.queueDeclare(queue, true, false, false, null);
    for (int i = 0; i < 20; i++) {
      channel.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("task " + i));
    }
    channel.basicQos(1);
    BlockingQueue<String> got = new LinkedBlockingQueue<>();
    String tag = channel.basicConsume(queue, false, new DefaultConsumer(channel) {
      @Override
      public void handleDelivery(String t, Envelope e, AMQP.BasicProperties p, byte[] body)
          throws java.io.IOException {
        check(p.getDeliveryMode() == 2 && "text/plain".equals(p.getContentType()), "properties");
        got.add(text(body));
        getChannel().basicAck(e.getDeliveryTag(), false);
      }
    });
    for (int i = 0; i < 20; i++) same("task " + i, next(got));
    channel.basicCancel(tag);
    same(0, (int) channel.messageCount(queue));
    channel.queueDelete(queue);
  }

  /** Confirms: waited for one by one, by batches, and told to a listener. */
  void confirms() throws Exception {
    String queue = channel.queueDeclare("java.confirms", true, false, false, null).getQueue();
    channel.confirmSelect();
    for (int i = 0; i < 5; i++) {
      persist(queue, "single " + i);
      check(channel.waitForConfirms(SECONDS * 1000), "a nack");
    }
    for (int batch = 0; batch < 3; batch++) {
      for (int i = 0; i < 100; i++) persist(queue, "batch " + i);
      channel.waitForConfirmsOrDie(SECONDS * 1000);
    }
    ConcurrentSkipListSet<Long> open = new ConcurrentSkipListSet<>();
    BlockingQueue<String> done = new LinkedBlockingQueue<>();
    channel.addConfirmListener(new ConfirmListener() {
      @Override
      public void handleAck(long tag, boolean multiple) {
        if (multiple) open.headSet(tag, true).clear();
        else open.remove(tag);
        if (open.isEmpty()) done.add("all");
      }

      @Override
      public void handleNack(long tag, boolean multiple) {
        done.add("nack " + tag);
      }
    });
    long first = channel.getNextPublishSeqNo();
    for (long i = 0; i < 500; i++) open.add(first + i);
    for (int i = 0; i < 500; i++) persist(queue, "asynchronous " + i);
    same("all", next(done));
    same(805, (int) channel.messageCount(queue));
    channel.queueDelete(queue);
  }

  /** A full queue refuses, and says so. */
  void refusals() throws Exception {
    Map<String, Object> arguments = new HashMap<>();
    arguments.put("x-max-length", 1);
    arguments.put("x-overflow", "reject-publish");
    channel.queueDeclare("java.full", true, false, false, arguments);
    channel.confirmSelect();
    persist("java.full", "in");
    check(channel.waitForConfirms(SECONDS * 1000), "refused at once");
    persist("java.full", "out");
    check(!channel.waitForConfirms(SECONDS * 1000), "not refused");
    channel.queueDelete("java.full");
  }

  /** Several acknowledged at once, one given back, one thrown away. */
  void acknowledgements() throws Exception {
    String queue = channel.queueDeclare().getQueue();
    for (int i = 1; i <= 5; i++) channel.basicPublish("", queue, null, bytes("" + i));
    List<Long> tags = new ArrayList<>();
    for (int i = 1; i <= 5; i++) tags.add(get(queue).getEnvelope().getDeliveryTag());
    channel.basicAck(tags.get(1), true);
    channel.basicNack(tags.get(3), true, true);
    channel.basicReject(tags.get(4), false);
    for (String wanted : new String[] {"3", "4"}) {
      GetResponse again = get(queue);
      same(wanted, text(again.getBody()));
      check(again.getEnvelope().isRedeliver(), "not marked as redelivered");
      channel.basicAck(again.getEnvelope().getDeliveryTag(), false);
    }
    check(channel.basicGet(queue, true) == null, "something is left");
  }

  /** What no queue of an exchange wants goes to another exchange. */
  void alternate() throws Exception {
    channel.exchangeDeclare("java.unrouted", BuiltinExchangeType.FANOUT, true);
    Map<String, Object> arguments = new HashMap<>();
    arguments.put("alternate-exchange", "java.unrouted");
    channel.exchangeDeclare("java.main", BuiltinExchangeType.DIRECT, true, false, arguments);
    String alarm = channel.queueDeclare().getQueue();
    channel.queueBind(alarm, "java.unrouted", "");
    channel.basicPublish("java.main", "nobody", null, bytes("lost?"));
    same("lost?", text(get(alarm).getBody()));
    channel.exchangeDelete("java.main");
    channel.exchangeDelete("java.unrouted");
  }

  /** What is rejected, and what expires, goes to the queue of dead letters with its history. */
  void deadLetters() throws Exception {
    String dead = channel.queueDeclare().getQueue();
    Map<String, Object> arguments = new HashMap<>();
    arguments.put("x-dead-letter-exchange", "");
    arguments.put("x-dead-letter-routing-key", dead);
    String queue = channel.queueDeclare("", false, true, true, arguments).getQueue();
    channel.basicPublish("", queue, null, bytes("rejected"));
    channel.basicReject(get(queue).getEnvelope().getDeliveryTag(), false);
    checkDeath(get(dead), "rejected", queue);
    AMQP.BasicProperties soon = new AMQP.BasicProperties.Builder().expiration("100").build();
    channel.basicPublish("", queue, soon, bytes("expired"));
    checkDeath(get(dead), "expired", queue);
  }

  private void checkDeath(GetResponse response, String reason, String queue) {
    same(reason, text(response.getBody()));
    Map<?, ?> death = (Map<?, ?>) ((List<?>) response.getProps().getHeaders().get("x-death")).get(0);
    same(reason, death.get("reason").toString());
    same(queue, death.get("queue").toString());
    same(1L, death.get("count"));
  }

  /** The urgent ones first. */
  void priorities() throws Exception {
    Map<String, Object> arguments = Collections.<String, Object>singletonMap("x-max-priority", 10);
    String queue = channel.queueDeclare("", false, true, true, arguments).getQueue();
    for (int priority : new int[] {1, 5, 9, 5, 0}) {
      AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().priority(priority).build();
      channel.basicPublish("", queue, properties, bytes("" + priority));
    }
    for (String wanted : new String[] {"9", "5", "5", "1", "0"}) same(wanted, text(get(queue).getBody()));
  }

  /** Later, by the exchange that delays. */
  void delayed() throws Exception {
    Map<String, Object> arguments = Collections.<String, Object>singletonMap("x-delayed-type", "direct");
    channel.exchangeDeclare("java.later", "x-delayed-message", true, false, arguments);
    String queue = channel.queueDeclare().getQueue();
    channel.queueBind(queue, "java.later", "k");
    long sent = System.nanoTime();
    for (int delay : new int[] {600, 100}) {
      AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
          .headers(Collections.<String, Object>singletonMap("x-delay", delay)).build();
      channel.basicPublish("java.later", "k", properties, bytes("" + delay));
    }
    same("100", text(get(queue).getBody()));
    same("600", text(get(queue).getBody()));
    check(System.nanoTime() - sent >= 599_000_000L, "too early");
    channel.exchangeDelete("java.later");
  }

  /** The broker is killed and starts again: queues, bindings and consumers come back by themselves. */
  void recovery() throws Exception {
    BlockingQueue<String> recovered = new LinkedBlockingQueue<>();
    ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
      @Override
      public void handleRecovery(Recoverable it) {
        recovered.add("recovered");
      }

      @Override
      public void handleRecoveryStarted(Recoverable it) {}
    });
    channel.queueDeclare("java.durable", true, false, false, null);
    channel.confirmSelect();
    persist("java.durable", "before");
    check(channel.waitForConfirms(SECONDS * 1000), "a nack");
    String own = channel.queueDeclare("java.own", false, true, true, null).getQueue();
    channel.exchangeDeclare("java.events", BuiltinExchangeType.TOPIC, true);
    channel.queueBind(own, "java.events", "a.#");
    BlockingQueue<String> got = new LinkedBlockingQueue<>();
    channel.basicConsume(own, true, new DefaultConsumer(channel) {
      @Override
      public void handleDelivery(String t, Envelope e, AMQP.BasicProperties p, byte[] body) {
        got.add(text(body));
      }
    });
    System.out.println("kill it");
    same("recovered", next(recovered));
    channel.basicPublish("java.events", "a.b", null, bytes("after"));
    same("after", next(got));
    same("before", text(get("java.durable").getBody()));
  }

  private void persist(String queue, String body) throws Exception {
    channel.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes(body));
  }

  private GetResponse get(String queue) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
    while (System.nanoTime() < end) {
      GetResponse response = channel.basicGet(queue, false);
      if (response != null) return response;
      Thread.sleep(10);
    }
    throw new IllegalStateException("nothing came from " + queue);
  }

  private static String next(BlockingQueue<String> queue) throws InterruptedException {
    String found = queue.poll(SECONDS, TimeUnit.SECONDS);
    check(found != null, "nothing came");
    return found;
  }

  private static void same(Object wanted, Object found) {
    check(wanted.equals(found), wanted + " was wanted, " + found + " came");
  }

  private static void check(boolean isRight, String otherwise) {
    if (!isRight) throw new IllegalStateException(otherwise);
  }

  private static byte[] bytes(String text) {
    return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
  }

  private static String text(byte[] bytes) {
    return new String(bytes, java.nio.charset.StandardCharsets.UTF_8);
  }
}
